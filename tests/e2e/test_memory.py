"""How a worker comes by the memory of large values, seen by a step of it in its thread."""

import json
import platform
import subprocess
import sys

import pytest

from .conftest import COMMAND

# The step returns how many blocks of 8 MiB are mapped one by one, once a larger one was freed.
FLOWS = """
import ctypes
from pgflow_events import Flow

blocks = Flow("blocks", max_attempts=1)

class Info(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

mallinfo2 = ctypes.CDLL(None).mallinfo2
mallinfo2.restype = Info

@blocks.step()
def mapped() -> int:
    larger = bytes(31 * 1024 * 1024)
    del larger
    before = mallinfo2().hblks
    values = [bytes(8 * 1024 * 1024) for _ in range(4)]
    return mallinfo2().hblks - before
"""
PROGRAM = """
import trio
from pgflow_events import Worker

async def main():
    async with trio.open_nursery() as nursery:
        await nursery.start(Worker([blocks], {dsn!r}).run)
        print("ready: blocks", flush=True)

trio.run(main)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="there is no glibc")
@pytest.mark.parametrize("way", ["command", "program"])
def test_a_worker_maps_large_blocks_one_by_one_however_it_is_started(
    environment, cli, tmp_path, way
):
    file = tmp_path / "blocks.py"
    program = PROGRAM.format(dsn=environment["PGFLOW_DSN"]) if way == "program" else ""
    file.write_text(FLOWS + program)
    start = [sys.executable, str(file)] if program else [*COMMAND, "worker", str(file)]
    silent = ("MALLOC_", "GLIBC_TUNABLES")  # whoever says something of malloc has the say
    kept = {k: v for k, v in environment.items() if not k.startswith(silent)}
    with subprocess.Popen(start, env=kept, stdout=subprocess.PIPE, text=True) as worker:
        try:
            assert worker.stdout.readline() == "ready: blocks\n"
            answer = cli("start", "blocks", "--wait")
        finally:
            worker.kill()
    assert (answer.returncode, json.loads(answer.stdout)) == (0, {"mapped": 4}), answer.stderr
