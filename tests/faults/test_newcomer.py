"""A machine that has nothing of ours, and a user who pastes the README into its shell."""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from pgflow_events.embedded.folder import ServerFolder

from ..e2e.test_readme import address
from .conftest import ROOT, missing

__all__ = ["address"]  # a fixture

UNREACHABLE = re.compile(
    "NewConnectionError|ConnectTimeout|ReadTimeout|name resolution|Network is unreachable"
)


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    """An empty home, with a fresh clone and an empty virtual environment."""
    with tempfile.TemporaryDirectory(prefix="pgflow-newcomer-") as folder:
        home = Path(folder)
        home.chmod(0o755)
        subprocess.run(["git", "clone", "--quiet", ROOT, home / "clone"], check=True)
        subprocess.run([sys.executable, "-m", "venv", home / "venv"], check=True)
        yield home


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    """Of ours it has the way to the registry, and no database."""
    ours = ("PG", "PYTHON", "VIRTUAL_ENV", "CREDENTIALS", "XDG_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    return kept | {
        "PIP_CACHE_DIR": str(Path.home() / ".cache/pip"),
        "HOME": str(home),
        "XDG_DATA_HOME": str(home / "data"),
        # What root's commands use would be that of the whole machine, in /var/lib.
        "PGFLOW_PG_FOLDER": str(home / "server"),
        "VIRTUAL_ENV": str(home / "venv"),
        "PATH": f"{home / 'venv/bin'}:{os.environ['PATH']}",
    }


def block() -> str:
    """The commands of the README's "Use it"."""
    (found,) = re.findall(r"(?m)(?:^    .*pgflow-events.*\n|^    pip .*\n)+", readme())
    return "".join(line[4:] for line in found.splitlines(keepends=True))


def readme() -> str:
    return (ROOT / "README.md").read_text()


@pytest.mark.timeout(300)
def test_the_commands_of_the_readme_run_as_they_are_pasted(home, environment, address):
    """Only the address is another: the tests stay on this machine."""
    script = block().replace("https://example.com", address)
    assert script != block()
    shell = subprocess.run(
        ["bash"],
        input=f"{script}kill $!\nwait $!\necho the worker left with $?\n",
        cwd=home / "clone",
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    if UNREACHABLE.search(shell.stderr):
        missing("a package registry that can be reached")
    said = f"{shell.stdout}\n{shell.stderr}"
    assert "error: " not in shell.stderr, said
    assert "ready: analyze_website\n" in shell.stdout, said
    assert '"saveToDb": null' in shell.stdout, said
    assert re.search(r"analyze_website +completed", shell.stdout), said
    assert "the worker left with 0" in shell.stdout, said
    assert (home / "clone/websites.db").exists()
    assert ServerFolder(home / "server").is_free()
