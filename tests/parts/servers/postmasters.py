"""The processes of embedded servers, as /proc shows them."""

import os
from contextlib import suppress
from pathlib import Path


def parent_of(process: int) -> int:
    """The process that it is a child of, by now."""
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def keeper_of(postmaster: int) -> int:
    """The process that keeps a server running; ProcessLookupError if that is dead."""
    parent = parent_of(postmaster)
    if b"keeper.py" not in Path(f"/proc/{parent}/cmdline").read_bytes():
        raise ProcessLookupError(postmaster)
    return parent


def servers(folder: Path) -> list[int]:
    """The postmasters of this folder; what they have just forked looks like them."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            command = (process / "cmdline").read_bytes().split(b"\0")
            if os.fsencode(f"-D{folder / 'data'}") in command and command[0].endswith(b"postgres"):
                found[int(process.name)] = parent_of(int(process.name))
    return [pid for pid, parent in found.items() if parent not in found]
