import json
import runpy
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pgflow_events.flow import Flow

FOLDER = Path(__file__).parent
ROOT = FOLDER.parents[1]

Place = tuple[str, int]


def marked() -> set[Place]:
    return {
        (file.name, number)
        for file in FOLDER.glob("*.py")
        if file != Path(__file__)
        for number, line in enumerate(file.read_text().splitlines(), start=1)
        if "# rejected: " in line
    }


def check(*arguments: str) -> str:
    checker = subprocess.run(
        [sys.executable, "-m", *arguments, str(FOLDER)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert checker.returncode == 1, checker.stdout + checker.stderr
    return checker.stdout


def mypy(cache: Path) -> Iterator[tuple[Place, str]]:
    for line in check("mypy", "--strict", "--output=json", f"--cache-dir={cache}").splitlines():
        report: dict[str, Any] = json.loads(line)
        if report["severity"] == "error":
            yield (Path(report["file"]).name, report["line"]), report["message"]


def pyright() -> Iterator[tuple[Place, str]]:
    output = check("pyright", "--outputjson", f"--pythonpath={sys.executable}")
    report: dict[str, Any]
    for report in json.loads(output)["generalDiagnostics"]:
        line: int = report["range"]["start"]["line"] + 1
        yield (Path(report["file"]).name, line), report["message"]


def assert_refused_exactly_where_marked(errors: dict[Place, str]) -> None:
    unmarked = {place: error for place, error in errors.items() if place not in marked()}
    accepted = marked() - errors.keys()
    assert (unmarked, accepted) == ({}, set())


def test_mypy_refuses_exactly_the_marked_lines(pytestconfig: pytest.Config) -> None:
    cache = pytestconfig.cache
    assert cache is not None
    assert_refused_exactly_where_marked(dict(mypy(cache.mkdir("mypy"))))


def test_pyright_refuses_exactly_the_marked_lines() -> None:
    assert_refused_exactly_where_marked(dict(pyright()))


def test_what_the_checkers_accept_can_be_defined() -> None:
    names = runpy.run_path(str(FOLDER / "accepted.py"))
    flows: dict[str, Flow[Any]] = {
        value.slug: value for value in names.values() if isinstance(value, Flow)
    }
    assert flows["analyze_website"].steps["save"].dependencies == ("sentiment", "shortened")
    assert flows["wide"].steps["nine"].dependencies == tuple(f"part_{n}" for n in range(9))
