"""The processes of embedded servers, as /proc shows them."""

import os
from contextlib import suppress
from pathlib import Path


def keeper_of(postmaster: int) -> int:
    """The process that keeps a server running."""
    return int(Path(f"/proc/{postmaster}/stat").read_text().rpartition(")")[2].split()[1])


def servers(folder: Path) -> list[int]:
    """The postmasters of this folder; what they have just forked looks like them."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            command = (process / "cmdline").read_bytes().split(b"\0")
            if os.fsencode(f"-D{folder / 'data'}") in command and command[0].endswith(b"postgres"):
                found[int(process.name)] = keeper_of(int(process.name))
    return [pid for pid, parent in found.items() if parent not in found]
