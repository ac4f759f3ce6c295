"""A disk of its own for a folder, which may be made full."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .own_server import account


class NoRightToMount(Exception):
    """A disk of its own takes rights that we do not have."""


@contextmanager
def own_disk(folder: Path, size: str) -> Iterator[None]:
    """Let a new folder, which the server's account owns, be a disk of its own, in memory.

    Args:
        folder: Where.
        size: In bytes, or in per cent of the memory, of which it takes what is on it.

    Raises:
        NoRightToMount: It cannot be.
    """
    folder.mkdir()
    options = f"size={size},mode=0700,uid={account() or os.geteuid()}"
    mount = ["mount", "-t", "tmpfs", "-o", options, "pgflow_faults", folder]
    mounted = subprocess.run(mount, check=False, capture_output=True, text=True)
    if mounted.returncode:
        folder.rmdir()
        raise NoRightToMount(mounted.stderr.strip())
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


def resize(folder: Path, size: str) -> bool:
    """Change the size of such a disk; whether what is on it has room."""
    command = ["mount", "-o", f"remount,size={size}", folder]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


def used(folder: Path) -> int:
    """The bytes on it."""
    disk = os.statvfs(folder)
    return (disk.f_blocks - disk.f_bfree) * disk.f_frsize
