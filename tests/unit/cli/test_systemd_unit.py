"""What is checked before a unit is written, and what its sandbox hides from the worker."""

import re
import shlex
import sys
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pgflow_events.cli import commands
from pgflow_events.cli.systemd_unit import SANDBOX, SYSTEM_SANDBOX, USER_SANDBOX, checks

systemd_unit = import_module("pgflow_events.cli.systemd_unit")

FLOWS = """
from pgflow_events import Flow
print("loaded")
first = Flow("first")
number = 1
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    (tmp_path / "app.py").write_text(FLOWS)
    (tmp_path / "faulty.py").write_text("1 / 0")
    return tmp_path


def unit(*arguments: str) -> Result:
    return CliRunner().invoke(commands, ["systemd-unit", *arguments])


@pytest.mark.parametrize("place", ["app", "app.py", "app:first"])
def test_a_unit_is_written_for_flows_that_are_there(folder, place):
    written = unit(place, "--system", "--directory", str(folder))
    assert written.exit_code == 0, written.stderr
    assert written.stdout.startswith("# A template by ")
    assert "loaded" not in written.stdout


def test_whose_service_manager_it_is_for_must_be_said(folder):
    refused = unit("app", "--directory", str(folder))
    assert (refused.exit_code, refused.stdout) == (2, "")
    assert refused.stderr.endswith("give --system or --user\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "cannot import nowhere: ModuleNotFoundError"),
        (["nowhere.py"], "there is no file nowhere.py"),
        (["app:second"], "module app has no 'second'"),
        (["app:number"], "there is no Flow at 'app:number'"),
        (["faulty"], "cannot import faulty: ZeroDivisionError"),
        (["app", "--worker-options", "--resources app:nothing"], "module app has no 'nothing'"),
        (["app", "--directory", "/nowhere"], "there is no folder /nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_unit_for_what_is_not_there_is_refused(folder, arguments, message):
    for whose in ("--system", "--user"):
        refused = unit(whose, "--directory", str(folder), *arguments)
        assert (refused.exit_code, refused.stdout) == (1, "")
        (line,) = [line for line in refused.stderr.splitlines() if line != "loaded"]
        assert line.startswith(f"error: {message}")
        assert "give --no-check" in refused.stderr
        unchecked = unit(whose, "--no-check", *arguments)
        assert unchecked.exit_code == 0


@pytest.mark.parametrize(
    ("place", "whose", "words"),
    [
        ("/tmp/app", "both", "will not see /tmp/app (PrivateTmp=yes)"),
        ("/var/tmp/app", "both", "will not see /var/tmp/app (PrivateTmp=yes)"),
        ("/home/somebody/app", "system", "will not see /home/somebody/app (ProtectHome=yes)"),
        ("/root/app", "system", "will not see /root/app (ProtectHome=yes)"),
        ("/run/user/1000/app", "system", "(ProtectHome=yes)"),
        ("/run/app", "both", "will be gone after a reboot"),
        ("/dev/shm/app", "both", "will be gone after a reboot"),
        ("/opt/app", "none", ""),
        ("/srv/app", "none", ""),
        ("/tmporary/app", "none", ""),
    ],
)
def test_what_the_sandbox_hides_is_warned_of(place, whose, words):
    for system in (True, False):
        warned = whose == "both" or (whose == "system" and system)
        fault = checks.fault_of(Path(place), system=system)
        assert (words in fault) if warned else not (fault and "PrivateTmp" in fault)


def test_what_another_user_may_not_read_is_warned_of(tmp_path, monkeypatch):
    monkeypatch.setattr(checks, "FLEETING", ())
    monkeypatch.setattr(checks, "HIDDEN", {})
    monkeypatch.setattr(checks, "HIDDEN_FROM_SYSTEM", {})
    place = tmp_path / "closed" / "app"
    place.mkdir(parents=True)
    place.parent.chmod(0o700)
    closed = list(checks.closed_to_others(place))
    assert place.parent in closed
    place.parent.chmod(0o711)
    assert place.parent not in list(checks.closed_to_others(place))
    assert checks.fault_of(place, system=False) is None


def test_a_folder_of_the_flows_a_key_file_and_a_folder_of_objects_are_warned_of():
    warned = unit(
        "app", "--system", "--no-check", "--directory", "/tmp/app",
        "--worker-options", "--keys /home/me/keys --objects file:///srv/a%20b",
    )  # fmt: skip
    assert warned.exit_code == 0
    lines = [line for line in warned.stderr.splitlines() if "/.venv/" not in line]
    elsewhere = ": move it to /opt or /srv"
    assert lines == [
        f"warning: the service will not see /home/me/keys (ProtectHome=yes){elsewhere}",
        f"warning: the service will not see /tmp/app (PrivateTmp=yes){elsewhere}",
        "warning: add ReadWritePaths=/srv/a b: the sandbox makes it read-only",
    ]


def test_the_python_that_runs_it_and_all_it_has_imported_are_looked_at():
    places = checks.places_of_code()
    assert Path(sys.base_prefix) in places
    for module in (pytest, checks):
        assert any(Path(module.__file__).is_relative_to(place) for place in places)


# What each setting of the sandbox does to files that are read.
HARMLESS = {
    "CapabilityBoundingSet", "DynamicUser", "KeyringMode", "LockPersonality",
    "MemoryDenyWriteExecute", "NoNewPrivileges", "PrivateMounts", "ProtectClock",
    "ProtectControlGroups", "ProtectHostname", "ProtectKernelLogs", "ProtectKernelModules",
    "ProtectKernelTunables", "ProtectSystem", "RemoveIPC", "RestrictAddressFamilies",
    "RestrictNamespaces", "RestrictRealtime", "RestrictSUIDSGID", "SystemCallArchitectures",
    "SystemCallErrorNumber", "SystemCallFilter",
}  # fmt: skip
WARNED_OF = {
    "PrivateTmp": "/tmp",
    "ProtectHome": "/home",
    "PrivateDevices": "/dev",
    "ProcSubset": "/proc",
    "ProtectProc": "/proc",
    "User": "who may read",
    "PrivateUsers": "who may read",
}


def test_each_setting_of_the_sandbox_hides_nothing_or_is_warned_of():
    text = SANDBOX + SYSTEM_SANDBOX + USER_SANDBOX
    names = {line.partition("=")[0] for line in text.splitlines()}
    assert names == HARMLESS | set(WARNED_OF)
    for place in WARNED_OF.values():
        if place.startswith("/"):
            assert checks.fault_of(Path(place) / "x", system=True)


def read_by_systemd(line: str) -> list[str]:
    """The words of a command line, by the rules of systemd.syntax and systemd.service."""
    words = re.findall(r'"(?:[^"\\]|\\.)*"|\S+', line)
    bare = [re.sub(r"\\(.)", r"\1", word[1:-1]) if word[0] == '"' else word for word in words]
    assert "%" not in "".join(bare).replace("%%", "")
    program, *arguments = (word.replace("%%", "%") for word in bare)
    assert "$" not in "".join(arguments).replace("$$", "")
    return [program, *(word.replace("$$", "$") for word in arguments)]


@pytest.mark.parametrize(
    "word", ["a b", "%h", "$HOME", "${X}", 'a"b', "it's", "back\\slash", "end\\", ";", "", "é", "#"]
)
def test_each_word_reaches_the_worker_as_it_is(word, monkeypatch):
    monkeypatch.setattr(systemd_unit, "find_program", lambda: ["/opt/a$b %c/pgflow-events"])
    options = shlex.join(["--resources", word])
    written = unit("m", "--user", "--no-check", "--worker-options", options)
    (line,) = re.findall("^ExecStart=(.*)$", written.stdout, re.MULTILINE)
    assert read_by_systemd(line) == [
        "/opt/a$b %c/pgflow-events", "worker", "m", "--resources", word, "--log-format", "journal",
    ]  # fmt: skip
    usual = unit("m", "--user", "--no-check", "--worker-options", "--resources x").stdout
    assert written.stdout.count("\n") == usual.count("\n")


@pytest.mark.parametrize(
    "text", ["x\\", "x ", "x\nUser=root", "x\r", "x\u2028y", "\u202ex", "x\ufe0f"]
)
def test_what_would_go_on_in_another_line_or_be_hidden_is_refused(text):
    for arguments in ([text], ["m", "--directory", f"/srv/{text}"]):
        refused = unit(*arguments, "--system", "--no-check")
        assert (refused.exit_code, refused.stdout) == (2, "")
        assert "a unit cannot hold" in refused.stderr


@pytest.mark.parametrize(("given", "written"), [("1e6", "1000025s"), ("0.5", "26s")])
def test_a_long_time_is_written_so_that_systemd_can_read_it(given, written):
    answer = unit("m", "--user", "--no-check", "--worker-options", f"--stop-timeout {given}")
    (line,) = re.findall("^TimeoutStopSec=(.*)$", answer.stdout, re.MULTILINE)
    assert line == written
