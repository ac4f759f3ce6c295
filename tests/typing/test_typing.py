import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pgflow_events.flow.flow import Flow

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]

PAGES = ["flows", "maps"]

Place = tuple[str, int]


def marked() -> set[Place]:
    return {
        (file.name, number)
        for file in FOLDER.glob("*.py")
        if file != Path(__file__)
        for number, line in enumerate(file.read_text().splitlines(), start=1)
        if "# rejected: " in line
    }


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The Python of the pages on flows and maps, a module each."""
    modules = [tmp_path_factory.mktemp("typing") / f"page_on_{name}.py" for name in PAGES]
    for name, module in zip(PAGES, modules, strict=True):
        text = (ROOT / "docs" / "guide" / f"{name}.md").read_text(encoding="utf-8")
        blocks = re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        module.write_text("\n".join(blocks), encoding="utf-8")
    return modules


def check(*arguments: str) -> str:
    checker = subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert checker.returncode in {0, 1}, checker.stdout + checker.stderr
    return checker.stdout


def mypy(cache: Path, *paths: str) -> dict[Place, str]:
    output = check("mypy", "--strict", "--output=json", f"--cache-dir={cache}", *paths)
    reports: list[dict[str, Any]] = [json.loads(line) for line in output.splitlines() if line]
    return {
        (Path(report["file"]).name, report["line"]): report["message"]
        for report in reports
        if report["severity"] == "error"
    }


def pyright(*paths: str) -> dict[Place, str]:
    output = check("pyright", "--outputjson", f"--pythonpath={sys.executable}", *paths)
    reports: list[dict[str, Any]] = json.loads(output)["generalDiagnostics"]
    return {
        (Path(report["file"]).name, report["range"]["start"]["line"] + 1): report["message"]
        for report in reports
    }


# Each checker is started once for all files: most of its time goes to what they import.
@pytest.fixture(scope="module", params=["mypy", "pyright"])
def errors(
    request: pytest.FixtureRequest, pages: list[Path], pytestconfig: pytest.Config
) -> dict[Place, str]:
    """What each checker refuses."""
    scraper = (ROOT / "examples").glob("*_site.py")
    paths = [str(FOLDER), *map(str, [*pages, *scraper])]
    if request.param == "pyright":
        return pyright(*paths)
    assert pytestconfig.cache is not None
    return mypy(pytestconfig.cache.mkdir("mypy"), *paths)


def test_the_marked_lines_are_refused(errors: dict[Place, str]) -> None:
    assert marked() - errors.keys() == set()


def test_all_other_lines_and_the_pages_are_accepted(errors: dict[Place, str]) -> None:
    assert {place: error for place, error in errors.items() if place not in marked()} == {}


def test_what_the_checkers_accept_can_be_defined() -> None:
    names = runpy.run_path(str(FOLDER / "accepted.py"))
    flows: dict[str, Flow[Any]] = {
        value.slug: value for value in names.values() if isinstance(value, Flow)
    }
    assert flows["analyze_website"].steps["save"].dependencies == ("sentiment", "shortened")
    assert flows["wide"].steps["nine"].dependencies == tuple(f"part_{n}" for n in range(9))
