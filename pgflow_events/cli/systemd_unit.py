"""`pgflow-events systemd-unit`."""

import re
import shlex
import sys
from math import ceil, isfinite
from pathlib import Path
from typing import Any

import click

from pgflow_events.cli.command import Command, say
from pgflow_events.cli.unit_checks import check_there, places_of_code, warn
from pgflow_events.cli.worker import worker
from pgflow_events.service.shutdown import LAST_RESORT
from pgflow_events.texts import printable

UNIT = """\
# A template, written by `pgflow-events systemd-unit`. Save it in {folder} as NAME@.service; then
#
#     {systemctl} daemon-reload
#     {systemctl} enable --now NAME@1 NAME@2

[Unit]
Description=pgflow worker %i of {flows}
{order}# However long the database is away: try again.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
WorkingDirectory={directory}
Restart=always
RestartSec=5s
TimeoutStartSec=2min
SyslogIdentifier=%N

# The DSN, in a file that only {owner} can read; and a key file for blobs, if there is one.
LoadCredential=pgflow-dsn:%E/pgflow/dsn
#LoadCredential=pgflow-keys:%E/pgflow/keys

# How long the worker may hang; then SIGABRT ends it, and Python prints where each thread was.
WatchdogSec=3min
Environment=PYTHONFAULTHANDLER=1

# SIGTERM goes to the worker, not to what its handlers have started. It leaves within its
# --stop-timeout and {last_resort} seconds. What is left of it then is killed.
KillMode=mixed
TimeoutStopSec={stop_timeout}

# Handlers may write in $STATE_DIRECTORY and /tmp, and talk to any host.
StateDirectory={state}
UMask=0077
{sandbox}
[Install]
WantedBy={target}
DefaultInstance=1
"""
ORDER = """\
After=network-online.target postgresql.service
Wants=network-online.target
"""
# What a service manager of a user's does not do, whatever a unit says.
SYSTEM_SANDBOX = """\
DynamicUser=yes
User=pgflow
ProcSubset=pid
ProtectHome=yes
ProtectProc=invisible
RemoveIPC=yes
"""
USER_SANDBOX = """\
ProtectHome=read-only
"""
SANDBOX = """\
CapabilityBoundingSet=
KeyringMode=private
LockPersonality=yes
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
PrivateDevices=yes
PrivateMounts=yes
PrivateTmp=yes
PrivateUsers=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectSystem=strict
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
"""
PLAIN = re.compile(r"[\w@:,./+=-]+", re.ASCII)


@click.command(
    "systemd-unit",
    cls=Command,
    examples=(
        "pgflow-events systemd-unit myapp.flows:analyze --system > analyze@.service",
        "pgflow-events systemd-unit flows.py --user --worker-options '--slots 200'",
    ),
)
@click.argument("flows", nargs=-1, required=True, metavar="MODULE[:FLOW]...")
@click.option(
    "--system/--user",
    default=None,
    required=True,
    help="For the machine's service manager, or for your own.",
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    metavar="FOLDER",
    help="The folder in which MODULE is. Default: the current folder.",
)
@click.option(
    "--worker-options",
    default="",
    metavar="TEXT",
    help="Options of the command `worker`.",
)
@click.option(
    "--no-check",
    "unchecked",
    is_flag=True,
    help="Write it for another machine: do not check the folder and the flows here.",
)
def systemd_unit(
    *,
    flows: tuple[str, ...],
    system: bool | None,
    directory: Path,
    worker_options: str,
    unchecked: bool,
) -> None:
    """Write a unit that runs workers under systemd.

    The unit goes to stdout. It is a template: its instances are workers of the same flows. The DSN
    is read from a credential, by default /etc/pgflow/dsn or ~/.config/pgflow/dsn, and stands
    neither in the unit nor in the environment.

    The flows are imported, to see that they are there. A warning names what the sandbox of the
    service hides from it.
    """
    if system is None:  # click lets it pass
        raise click.UsageError("say whose service manager it is for: --system or --user")
    program, directory = find_program(), directory.absolute()
    options = [*words_of(worker_options), "--log-format", "journal"]
    refuse_lines([*flows, *options, str(directory)])
    refuse_ends([*flows, str(directory)])
    parameters = checked_parameters([*flows, *options])
    places = {Path(program[0]), directory, *filter(None, [parameters["keys"]])}
    if not unchecked:
        check_there(directory, parameters)
        places |= places_of_code()
    warn(system=system, places=places, options=parameters)
    say(
        UNIT.format(
            **(FOR_SYSTEM if system else FOR_USER),
            flows=escaped(" ".join(flows)),
            command=command_line([*program, "worker", *flows, *options]),
            directory=escaped(str(directory)),
            stop_timeout=seconds(parameters["stop_timeout"] + LAST_RESORT + 5),
            last_resort=f"{LAST_RESORT:g}",
        ).rstrip("\n")
    )


FOR_SYSTEM = {
    "folder": "/etc/systemd/system",
    "systemctl": "systemctl",
    "owner": "root",
    "state": "pgflow",
    "order": ORDER,
    "sandbox": SYSTEM_SANDBOX + SANDBOX,
    "target": "multi-user.target",
}
FOR_USER = {
    "folder": "~/.config/systemd/user",
    "systemctl": "systemctl --user",
    "owner": "you",
    "state": "pgflow-worker",  # before systemd 254 it is beside the DSN, in ~/.config
    "order": "",
    "sandbox": USER_SANDBOX + SANDBOX,
    "target": "default.target",
}


def find_program() -> list[str]:
    """The command `pgflow-events` of this very Python."""
    script = Path(sys.executable).with_name("pgflow-events")
    return [str(script)] if script.exists() else [sys.executable, "-m", "pgflow_events"]


def words_of(options: str) -> list[str]:
    """Options as a shell would split them.

    Raises:
        click.UsageError: A quote is not closed.
    """
    try:
        return shlex.split(options)
    except ValueError as error:
        raise click.UsageError(f"--worker-options {options!r}: {error}") from error


def refuse_lines(words: list[str]) -> None:
    """Raise if one of these words would begin another line of the unit.

    Raises:
        click.UsageError: It has a control character.
    """
    for word in words:
        if printable(word) != word:
            raise click.UsageError(f"a line of a unit cannot hold {word!r}")


def refuse_ends(texts: list[str]) -> None:
    """Raise if one of these texts, which stand unquoted, would go on in the next line or be cut.

    Raises:
        click.UsageError: It ends with a backslash or a blank.
    """
    for text in texts:
        if text.endswith(("\\", " ")):
            raise click.UsageError(f"a line of a unit cannot end with {text!r}")


def checked_parameters(arguments: list[str]) -> dict[str, Any]:
    """What a worker makes of these arguments.

    Raises:
        click.UsageError: The worker would not accept them, or they hold a DSN.
    """
    parameters = worker.make_context("worker", [*arguments]).params
    if parameters["dsn"] or any(word.startswith("--listen-dsn") for word in arguments):
        raise click.UsageError("everybody can read a unit: put the DSN into its credential")
    return parameters


def escaped(text: str) -> str:
    """A text in which systemd finds no specifier."""
    return text.replace("%", "%%")


def seconds(number: float) -> str:
    """A time as systemd reads it, which knows no 1e+06."""
    return f"{ceil(number)}s" if isfinite(number) else "infinity"


def command_line(words: list[str]) -> str:
    """A command line as systemd reads it: in the path of the program, a $ stands for itself."""
    program, *arguments = map(quoted, words)
    return " ".join([program.replace("$$", "$"), *arguments])


def quoted(word: str) -> str:
    """A word of a command line, as systemd reads it."""
    if PLAIN.fullmatch(word):
        return word
    inner = escaped(word).replace("\\", r"\\").replace('"', r"\"").replace("$", "$$")
    return f'"{inner}"'
