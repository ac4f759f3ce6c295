"""An environment for each peer, made when it is first needed: never one of the project's own."""

import shutil
import subprocess
import sys
import venv
from pathlib import Path

from tests.bench.peers.catalog import HERE, Peer

ENVS = HERE / ".envs"
MODULES = ENVS / "node"


class Missing(Exception):
    """A peer cannot be run here."""


def command(peer: Peer) -> list[str]:
    """What runs its program.

    Raises:
        Missing: Something that it needs is not there.
    """
    return [interpreter(peer), str(HERE / peer.program)]


def interpreter(peer: Peer) -> str:
    """Its Python or Node, with the peer's packages installed."""
    if peer.runtime == "own":
        return sys.executable
    if peer.runtime == "python":
        return python(peer)
    return node()


def python(peer: Peer) -> str:
    """The interpreter of its virtual environment."""
    folder = ENVS / peer.requirements.stem
    executable = folder / "bin" / "python"
    pinned = peer.requirements.read_text()
    if not is_stamped(folder, pinned):
        venv.create(folder, with_pip=True, clear=True)
        install([str(executable), "-m", "pip", "install", "-q", "-r", str(peer.requirements)])
        stamp(folder, pinned)
    return str(executable)


def node() -> str:
    """Node, with the packages of all its peers installed."""
    executable, npm = shutil.which("node"), shutil.which("npm")
    if not executable or not npm:
        raise Missing("node and npm are not installed")
    pinned = (HERE / "package-lock.json").read_text()
    if not is_stamped(MODULES, pinned):
        MODULES.mkdir(parents=True, exist_ok=True)
        for name in ("package.json", "package-lock.json"):
            shutil.copy(HERE / name, MODULES)
        install([npm, "ci", "--silent", "--prefix", str(MODULES)])
        stamp(MODULES, pinned)
    return executable


def install(arguments: list[str]) -> None:
    """Run an installer, and say in its words why it failed."""
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Missing(f"{' '.join(arguments[:4])}…: {done.stderr.strip()[-300:]}")


def is_stamped(folder: Path, pinned: str) -> bool:
    """Whether exactly this was installed there."""
    file = folder / "installed"
    return file.exists() and file.read_text() == pinned


def stamp(folder: Path, pinned: str) -> None:
    """Note what was installed, once it was."""
    (folder / "installed").write_text(pinned)
