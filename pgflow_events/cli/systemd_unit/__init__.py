"""`pgflow-events systemd-unit`."""

import re
import shlex
import sys
from math import ceil, isfinite
from pathlib import Path
from typing import Any

import click

from pgflow_events.cli.command import Command, say
from pgflow_events.cli.systemd_unit.checks import check_there, places_of_code, warn
from pgflow_events.cli.worker import worker
from pgflow_events.service.shutdown import UNTIL_LAST_RESORT
from pgflow_events.texts import printable

UNIT = """\
# A template by `pgflow-events systemd-unit`. Save it in {folder} as NAME@.service, then run
#
#     {systemctl} daemon-reload
#     {systemctl} enable --now NAME@1 NAME@2

[Unit]
Description=pgflow worker %i of {flows}
{order}# Try again for as long as the database is away.
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

# The DSN, in a file that only {owner} can read. Below it, a key file for encrypted blobs.
LoadCredential=pgflow-dsn:%E/pgflow/dsn
#LoadCredential=pgflow-keys:%E/pgflow/keys

# If the worker hangs for this long, SIGABRT ends it, and Python prints where each thread was.
WatchdogSec=3min
Environment=PYTHONFAULTHANDLER=1

# SIGTERM goes to the worker, not to processes that its handlers have started. The worker ends
# within its --stop-timeout plus {last_resort} seconds. Then systemd kills the remaining processes.
KillMode=mixed
TimeoutStopSec={stop_timeout}

# Handlers may write to $STATE_DIRECTORY and /tmp, and connect to any host.
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
# Settings that a user's service manager cannot apply.
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
    help="Whether the unit is for the machine's service manager, or for your own.",
)
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    metavar="FOLDER",
    help="The folder with MODULE. Default: the current folder.",
)
@click.option(
    "--worker-options",
    default="",
    metavar="TEXT",
    help="Options for the command `worker`.",
)
@click.option(
    "--no-check",
    "unchecked",
    is_flag=True,
    help="Write a unit for another machine: skip the checks of the folder and the flows.",
)
def systemd_unit(
    *,
    flows: tuple[str, ...],
    system: bool | None,
    directory: Path,
    worker_options: str,
    unchecked: bool,
) -> None:
    """Write a systemd unit that runs workers.

    Prints the unit to stdout. The unit is a template: each instance is a worker of the same flows.
    systemd reads the DSN from a file, by default /etc/pgflow/dsn or ~/.config/pgflow/dsn, and
    passes it as a credential. The DSN is neither in the unit nor in the environment.

    The command imports the flows, to check them. It warns about files that the sandbox of the
    service hides.
    """
    if system is None:  # click lets it pass
        raise click.UsageError("the kind of service manager is missing: give --system or --user")
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
            stop_timeout=seconds(parameters["stop_timeout"] + UNTIL_LAST_RESORT + 5),
            last_resort=f"{UNTIL_LAST_RESORT:g}",
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
    "state": "pgflow-worker",  # before systemd 254, ~/.config holds this folder and the DSN's
    "order": "",
    "sandbox": USER_SANDBOX + SANDBOX,
    "target": "default.target",
}


def find_program() -> list[str]:
    """The command `pgflow-events` of the Python that runs now."""
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
    """Refuse a word that would begin another line of the unit.

    Raises:
        click.UsageError: A word has a control character.
    """
    for word in words:
        if printable(word) != word:
            raise click.UsageError(f"a unit cannot hold {word!r}: leave out control characters")


def refuse_ends(texts: list[str]) -> None:
    """Refuse an unquoted text that systemd would cut, or join with the next line.

    Raises:
        click.UsageError: A text ends with a backslash or a blank.
    """
    for text in texts:
        if text.endswith(("\\", " ")):
            raise click.UsageError(f"a unit cannot hold {text!r}: its end is a backslash or blank")


def checked_parameters(arguments: list[str]) -> dict[str, Any]:
    """Parse these arguments as the command `worker` does.

    Raises:
        click.UsageError: The worker would refuse them, or they hold a DSN.
    """
    parameters = worker.make_context("worker", [*arguments]).params
    if parameters["dsn"] or any(word.startswith("--listen-dsn") for word in arguments):
        raise click.UsageError("everybody can read a unit: put the DSN into the credential's file")
    return parameters


def escaped(text: str) -> str:
    """A text with `%` escaped, because systemd would replace specifiers."""
    return text.replace("%", "%%")


def seconds(number: float) -> str:
    """A time as systemd reads it. systemd does not read 1e+06."""
    return f"{ceil(number)}s" if isfinite(number) else "infinity"


def command_line(words: list[str]) -> str:
    """A command line as systemd reads it. In the path of the program, `$` needs no escape."""
    program, *arguments = map(quoted, words)
    return " ".join([program.replace("$$", "$"), *arguments])


def quoted(word: str) -> str:
    """A word of a command line, quoted for systemd."""
    if PLAIN.fullmatch(word):
        return word
    inner = escaped(word).replace("\\", r"\\").replace('"', r"\"").replace("$", "$$")
    return f'"{inner}"'
