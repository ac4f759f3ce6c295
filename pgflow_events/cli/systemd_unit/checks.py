"""Checks before a unit is written: whether the service can find and read its code."""

import stat
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import chdir, redirect_stdout
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from pgflow_events.cli.command import say
from pgflow_events.cli.loading import load_factory, load_flows
from pgflow_events.errors import SettingsError

# The folders that the sandbox of a unit hides, and the setting that hides each.
HIDDEN = {"/tmp": "PrivateTmp=yes", "/var/tmp": "PrivateTmp=yes"}  # noqa: S108 - no file is created
HIDDEN_FROM_SYSTEM = {
    "/home": "ProtectHome=yes",
    "/root": "ProtectHome=yes",
    "/run/user": "ProtectHome=yes",
}
FLEETING = ("/dev", "/proc", "/run", "/sys")  # the machine creates them at each boot
READABLE = stat.S_IROTH
ENTERABLE = stat.S_IXOTH


def check_there(directory: Path, options: Mapping[str, Any]) -> None:
    """Load the flows and resources as the worker would.

    Raises:
        SettingsError: The folder is missing, or the import fails.
    """
    if not directory.is_dir():
        raise SettingsError(f"there is no folder {directory}: for another machine, give --no-check")
    # Modules may print. Their output must not be part of the unit.
    with chdir(directory), redirect_stdout(sys.stderr):
        try:
            load_flows(options["flows"])
            if options["resources"]:
                load_factory(options["resources"])
        except SettingsError as error:
            raise SettingsError(f"{error}; to write the unit anyway, give --no-check") from error


def warn(*, system: bool, places: Iterable[Path], options: Mapping[str, Any]) -> None:
    """Warn on stderr about files that the service cannot see, read or write."""
    told: list[Path] = []
    for place in sorted({path for near in places for path in (near, near.resolve())}):
        if any(place.is_relative_to(other) for other in told):
            continue
        if fault := fault_of(place, system=system):
            say(f"warning: {fault}: move it to /opt or /srv", err=True)
            told.append(place)
    objects = urlsplit(options["objects"] or "")
    if objects.scheme == "file":
        folder = unquote(objects.path)
        say(f"warning: add ReadWritePaths={folder}: the sandbox makes it read-only", err=True)


def fault_of(place: Path, *, system: bool) -> str | None:
    """Why a service cannot use this file or folder."""
    hidden = HIDDEN | (HIDDEN_FROM_SYSTEM if system else {})
    for folder, setting in hidden.items():
        if place.is_relative_to(folder):
            return f"the service will not see {place} ({setting})"
    if any(place.is_relative_to(folder) for folder in FLEETING):
        return f"{place} will be gone after a reboot"
    if system and (closed := next(closed_to_others(place), None)):
        return f"the service may not read {closed} (User=pgflow)"
    return None


def closed_to_others(place: Path) -> Iterator[Path]:
    """The parts of this path that only their owner may enter or read."""
    for path in (*reversed(place.parents), place):
        try:
            mode = path.stat().st_mode
        except OSError:  # it does not exist, or we may not look either
            return
        needed = ENTERABLE if stat.S_ISDIR(mode) else 0
        if path == place:
            needed |= READABLE
        if mode & needed != needed:
            yield path


def places_of_code() -> set[Path]:
    """The folders of this Python and of its imported modules."""
    roots = [Path(entry).absolute() for entry in sys.path if entry]
    found = {Path(sys.prefix), Path(sys.base_prefix)}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if isinstance(file, str):
            near = [root for root in roots if Path(file).absolute().is_relative_to(root)]
            found.add(max(near, key=lambda root: len(root.parts), default=Path(file).absolute()))
    return found
