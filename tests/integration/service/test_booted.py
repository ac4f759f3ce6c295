"""The service of examples/systemd under a real systemd, as its README sets it up."""

import json
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from ...parts.servers.booted import TARGET, Booted, booted, kill, what_is_missing

EXAMPLE = Path(__file__).parents[3] / "examples" / "systemd"
UNITS = ["pages@1.service", "pages@2.service"]
# As the README says, but that a test need not wait for minutes.
IMPATIENT = """\
[Service]
WatchdogSec=4
TimeoutAbortSec=1
TimeoutStopSec=1
RestartSec=100ms
"""


@pytest.fixture
def machine():
    """One that has the example's files, and is not booted yet."""
    if missing := what_is_missing():
        pytest.skip(missing)
    # Not in memory: systemd makes a /dev of its own, and what is in this one is gone.
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder, booted(Path(folder)) as made:
        made.write("/opt/pages/flows.py", (EXAMPLE / "flows.py").read_text())
        made.write("/opt/pages/page.html", "<p>")
        yield made


@pytest.fixture
def service_dsn(server_of_ours, dsn) -> str:
    """The database, by TCP: a service has a `/tmp` of its own."""
    return make_conninfo(server_of_ours.tcp, dbname="flows")


@pytest.fixture
def systemd(machine, service_dsn):
    machine.write("/etc/pgflow/dsn", service_dsn, 0o600)
    unit = (EXAMPLE / "pages@.service").read_text()
    machine.write("/etc/systemd/system/pages@.service", unit)
    machine.write("/etc/systemd/system/pages@.service.d/impatient.conf", IMPATIENT)
    machine.write(
        f"/etc/systemd/system/{TARGET}",
        f"[Unit]\nWants={' '.join(UNITS)}\nRequires=systemd-journald.service\n",
    )
    machine.boot()
    return machine


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


HOME = "/var/lib/somebody"
# The manager of a user. It is given what a machine has when its first services have started.
MANAGER = f"""\
[Service]
Type=notify
User=games
Delegate=yes
Environment=HOME={HOME} XDG_RUNTIME_DIR=/run/user/5
RuntimeDirectory=user/5
ExecStartPre=+/bin/mkdir -p /run/systemd/unit-root
ExecStartPre=+/bin/chown -R games {HOME}
ExecStart=/lib/systemd/systemd --user --unit={TARGET}
"""
AS_USER = ["setpriv", "--reuid=games", "--clear-groups", "env", "XDG_RUNTIME_DIR=/run/user/5"]


def test_the_unit_of_a_user_works_under_the_users_manager(machine, service_dsn, dsn):
    command = [sys.executable, "-m", "pgflow_events", "systemd-unit", "flows.py", "--user"]
    there = ["--directory", "/opt/pages", "--no-check"]
    unit = subprocess.run([*command, *there], capture_output=True, text=True, check=True).stdout
    unit = re.sub("ExecStart=.* worker", "ExecStart=/opt/pages/venv/bin/pgflow-events worker", unit)
    machine.write(f"{HOME}/.config/pgflow/dsn", service_dsn, 0o600)
    machine.write(f"{HOME}/.config/systemd/user/pages@.service", unit)
    machine.write(f"{HOME}/.config/systemd/user/{TARGET}", f"[Unit]\nWants={UNITS[0]}\n")
    machine.write("/etc/systemd/system/manager.service", MANAGER)
    machine.write(
        f"/etc/systemd/system/{TARGET}",
        "[Unit]\nWants=manager.service\nRequires=systemd-journald.service\n",
    )
    machine.boot()

    def show(name: str) -> str:
        ask = ["systemctl", "--user", "show", "--property", name, "--value", UNITS[0]]
        return machine.run(*AS_USER, *ask).strip()

    machine.until(lambda: show("ActiveState") == "active")
    with psycopg.connect(dsn, autocommit=True) as db:
        start = "select run_id from pgflow.start_flow('measure_pages', %s)"
        url = "file:///opt/pages/page.html"
        db.execute(start, [json.dumps({"url": url})])
        notes = f"{HOME}/.config/pgflow-worker/sizes.txt"
        machine.until(lambda: f"3 {url}" in machine.run("cat", notes))
    status = machine.run("cat", f"/proc/{show('MainPID')}/status")
    assert "\nUid:\t5\t" in status
    assert "\nNoNewPrivs:\t1" in status
    mounts = machine.run("cat", f"/proc/{show('MainPID')}/mountinfo")
    for read_only in ("/sys/fs/cgroup", "/opt"):
        assert [line for line in mounts.splitlines() if f" {read_only} ro," in line], read_only
    machine.run(*AS_USER, "systemctl", "--user", "stop", UNITS[0])
    assert (show("ActiveState"), show("Result")) == ("inactive", "success")
