"""An S3 server in a process of its own, to be killed or frozen."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.client import HTTPConnection
from typing import Any
from uuid import uuid4

from blobstore.objects import ObjectStore

BUCKET = "chunks"
CREDENTIALS = {"access_key_id": "AKIAOFTHETESTS", "secret_access_key": "the-secret-of-the-tests"}

# It ends with the process that reads its port, however that one ends.
PROGRAM = """
import sys
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", int(sys.argv[1]), verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""

HASTY = {
    "client_options": {"allow_http": True, "timeout": "500ms", "connect_timeout": "500ms"},
    "retry_config": {
        "max_retries": 1,
        "retry_timeout": timedelta(seconds=1),
        "backoff": {"init_backoff": timedelta(milliseconds=10)},
    },
}
# Long enough for a busy machine.
PATIENT = {"client_options": {"allow_http": True, "timeout": "20s", "connect_timeout": "20s"}}


def s3_store(endpoint: str, bucket: str = BUCKET, **options: Any) -> ObjectStore:
    """A store under a prefix of its own."""
    url = f"s3://{bucket}/{uuid4()}"
    options = {"endpoint": endpoint, "region": "us-east-1"} | CREDENTIALS | options
    return ObjectStore.from_url(url, **options)


class S3Server:
    """A server with the bucket `BUCKET`.

    Args:
        guarded: Refuse everybody once the bucket is there.
    """

    def __init__(self, *, guarded: bool = False) -> None:
        self._checks = {"INITIAL_NO_AUTH_ACTION_COUNT": "1"} if guarded else {}
        self.port = 0
        self.start()

    def start(self) -> None:
        """Run with an empty bucket; again after it was killed, then at the same port."""
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | self._checks,
        )
        assert self.process.stdout
        self.port = int(self.process.stdout.readline())
        connection = HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("PUT", f"/{BUCKET}")
        assert connection.getresponse().status == 200
        connection.close()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def s3_server(*, guarded: bool = False) -> Iterator[S3Server]:
    """Run a server for the block."""
    server = S3Server(guarded=guarded)
    try:
        yield server
    finally:
        server.kill()
