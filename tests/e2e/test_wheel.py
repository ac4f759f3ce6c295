"""What is installed is what is here."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    uv = shutil.which("uv", path=Path(sys.executable).parent)
    if uv is None:
        pytest.skip("uv is not in the environment; `make` puts it there")
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([uv, "build", "--quiet", "--wheel", "--out-dir", folder, ROOT], check=True)
    (file,) = folder.glob("*.whl")
    with zipfile.ZipFile(file) as archive:
        yield archive


@pytest.mark.parametrize(
    ("source", "packaged", "suffix"),
    [
        ("sql", "pgflow_events/sql", ".sql"),
        ("pgflow_events", "pgflow_events", ".py"),
        ("blobstore", "blobstore", ".py"),
    ],
)
def test_the_wheel_has_every_file(wheel, source, packaged, suffix):
    ours = {
        file.relative_to(ROOT / source).as_posix() for file in (ROOT / source).rglob(f"*{suffix}")
    }
    theirs = {
        name.removeprefix(f"{packaged}/")
        for name in wheel.namelist()
        if name.startswith(f"{packaged}/") and name.endswith(suffix)
    }
    assert theirs == ours != set()
