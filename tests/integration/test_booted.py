"""The service of examples/systemd under a real systemd, as its README sets it up."""

import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from .booted import TARGET, Booted, booted, kill, what_is_missing

EXAMPLE = Path(__file__).parents[2] / "examples" / "systemd"
UNITS = ["pages@1.service", "pages@2.service"]
# As the README says, but that a test need not wait for minutes.
IMPATIENT = """\
[Service]
WatchdogSec=4
TimeoutAbortSec=1
TimeoutStopSec=1
RestartSec=100ms
"""

pytestmark = pytest.mark.skipif(what_is_missing() is not None, reason=str(what_is_missing()))


@pytest.fixture
def systemd(tmp_path, server_of_ours, dsn):
    with booted(tmp_path) as made:
        made.write("/etc/pgflow/dsn", make_conninfo(server_of_ours.tcp, dbname="flows"), 0o600)
        made.write("/opt/pages/flows.py", (EXAMPLE / "flows.py").read_text())
        made.write("/opt/pages/page.html", "<p>")
        unit = (EXAMPLE / "pages@.service").read_text()
        made.write("/etc/systemd/system/pages@.service", unit)
        made.write("/etc/systemd/system/pages@.service.d/impatient.conf", IMPATIENT)
        made.write(
            f"/etc/systemd/system/{TARGET}",
            f"[Unit]\nWants={' '.join(UNITS)}\nRequires=systemd-journald.service\n",
        )
        made.boot()
        yield made


def is_active(systemd: Booted, unit: str) -> bool:
    return systemd.show(unit).get("ActiveState") == "active"


def completed(systemd: Booted) -> int:
    """How many tasks the workers say they have completed."""
    told = (re.search(r"(\d+) completed", systemd.show(unit)["StatusText"]) for unit in UNITS)
    return sum(int(found[1]) for found in told if found)


def test_the_service_of_the_example_starts_works_is_restarted_and_stops(systemd, dsn):
    for unit in UNITS:
        systemd.until(lambda unit=unit: is_active(systemd, unit))
    with psycopg.connect(dsn, autocommit=True) as db:

        def works() -> None:
            start = "select run_id from pgflow.start_flow('measure_pages', %s)"
            run = json.dumps({"url": "file:///opt/pages/page.html"})
            (run_id,) = db.execute(start, [run]).fetchone()
            status = "select status from pgflow.runs where run_id = %s"
            systemd.until(lambda: db.execute(status, [run_id]).fetchone() != ("started",))
            assert db.execute(status, [run_id]).fetchone() == ("completed",)

        works()
        assert "3 file:///opt/pages/page.html" in systemd.run("cat", "/var/lib/pgflow/sizes.txt")
        systemd.until(lambda: completed(systemd) == 2)
        assert_confined(systemd)

        kill(systemd, UNITS[0], signal.SIGKILL)
        systemd.until(lambda: systemd.show(UNITS[0])["NRestarts"] == "1")
        systemd.until(lambda: is_active(systemd, UNITS[0]))

        kill(systemd, UNITS[1], signal.SIGSTOP)
        systemd.until(lambda: systemd.show(UNITS[1])["NRestarts"] == "1")
        systemd.until(lambda: is_active(systemd, UNITS[1]))
        assert "Watchdog timeout" in systemd.console
        works()

        systemd.run("systemctl", "stop", *UNITS)
        for unit in UNITS:
            found = systemd.show(unit)
            assert (found["ActiveState"], found["Result"]) == ("inactive", "success")
            assert found["ExecMainStatus"] == "0"


def assert_confined(systemd: Booted) -> None:
    """The worker is nobody, and its DSN is not in its environment."""
    pid = systemd.show(UNITS[0])["MainPID"]
    status = systemd.run("cat", f"/proc/{pid}/status")
    assert "\nUid:\t0" not in status
    assert "\nCapEff:\t0000000000000000" in status
    assert "\nSeccomp:\t2" in status
    environment = systemd.run("cat", f"/proc/{pid}/environ")
    assert "CREDENTIALS_DIRECTORY=" in environment
    assert "port=" not in environment


@pytest.fixture
def door() -> Iterator[socket.socket]:
    """Where the handler of the example may ask for a page, and wait for it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(30)
        yield listening


def test_a_service_that_is_stopped_finishes_its_task_however_short_systemd_is_of_patience(
    systemd, dsn, door
):
    for unit in UNITS:
        systemd.until(lambda unit=unit: is_active(systemd, unit))
    with psycopg.connect(dsn, autocommit=True) as db:
        start = "select run_id from pgflow.start_flow('measure_pages', %s)"
        url = f"http://127.0.0.1:{door.getsockname()[1]}/"
        (run_id,) = db.execute(start, [json.dumps({"url": url})]).fetchone()
        asking, _ = door.accept()
        systemd.run("systemctl", "stop", "--no-block", *UNITS)
        (busy,) = [unit for unit in UNITS if "1 of 50" in systemd.show(unit)["StatusText"]]
        systemd.until(lambda: systemd.show(busy)["StatusText"].startswith("stopping: 1 of 50"))
        began = time.monotonic()
        systemd.until(lambda: time.monotonic() > began + 2)  # longer than TimeoutStopSec=
        assert systemd.show(busy)["SubState"] == "stop-sigterm"
        asking.recv(4096)
        asking.sendall(b"HTTP/1.0 200 OK\r\n\r\n<p>")
        asking.close()
        for unit in UNITS:
            systemd.until(lambda unit=unit: systemd.show(unit)["ActiveState"] == "inactive")
            assert systemd.show(unit)["Result"] == "success"
        task = "select status, attempts_count from pgflow.step_tasks where run_id = %s"
        assert ("completed", 1) in db.execute(task, [run_id]).fetchall()
    assert ("6", "done: 1 completed") in journal(systemd, busy)


def journal(systemd: Booted, unit: str) -> list[tuple[str, str]]:
    """What the worker of a unit told the journal: priorities, and messages."""
    lines = systemd.run("journalctl", "--unit", unit, "--output", "json").splitlines()
    entries = [entry for entry in map(json.loads, lines) if "_SYSTEMD_UNIT" in entry]
    told = [(entry["PRIORITY"], entry["MESSAGE"]) for entry in entries]
    return [(n, json.loads(text)["message"]) for n, text in told if text.startswith("{")]
