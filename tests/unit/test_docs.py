"""What the docs say is so."""

import re
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest

from ..parts.way import hands_on

ROOT = Path(__file__).parents[2]
PLACES = ("pgflow_events", "blobstore", "sql", "tests", "examples", "docs")


def files(*patterns: str) -> list[Path]:
    """Those of these names that are, or may be, in the repository."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *patterns],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return sorted({ROOT / name for name in listed.stdout.split() if (ROOT / name).exists()})


DOCS = [file.relative_to(ROOT) for file in files("*.md")]


@pytest.mark.parametrize("doc", DOCS, ids=str)
def test_links_lead_to_files(doc):
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / doc).read_text())
    assert [link for link in links if not (ROOT / doc.parent / link).exists()] == []


@pytest.mark.parametrize("doc", DOCS, ids=str)
def test_paths_that_are_named_exist(doc):
    named = re.findall(rf"`((?:{'|'.join(PLACES)})/[\w./-]*)`", (ROOT / doc).read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("doc", DOCS, ids=str)
def test_make_targets_that_are_named_exist(doc):
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert (
        set(re.findall(r"(?:`|^    )make ([a-z-]+)", (ROOT / doc).read_text(), re.MULTILINE))
        <= targets
    )


@pytest.mark.parametrize("doc", DOCS, ids=str)
def test_tests_that_are_named_exist(doc):
    named = re.findall(r"`(tests/[\w/.]+)::(\w+)`", (ROOT / doc).read_text())
    assert [
        f"{path}::{name}"
        for path, name in named
        if not re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE)
    ] == []


def names_of_tests() -> set[str]:
    return {
        name
        for file in files("tests/**/test_*.py")
        for name in re.findall(r"^ *(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
    }


@pytest.mark.parametrize("doc", DOCS, ids=str)
def test_tests_that_are_named_without_their_file_exist(doc):
    named = set(re.findall(r"`(test_\w+)`", (ROOT / doc).read_text()))
    assert named - names_of_tests() == set()


def test_every_fault_that_is_tried_is_told_of():
    told = (ROOT / "docs" / "inside" / "faults.md").read_text()
    tests = [file for file in files("tests/faults/*.py") if file.name.startswith("test_")]
    tried = [
        f"{file.relative_to(ROOT).as_posix()}::{name}"
        for file in tests
        for name in re.findall(r"^(?:async )?def (test_\w+)", file.read_text(), re.MULTILINE)
    ]
    assert tried
    assert [test for test in tried if f"`{test}`" not in told] == []


def guarantees() -> list[str]:
    """The sentences of docs/inside/guarantees.md that name a test, or should."""
    text = (ROOT / "docs" / "inside" / "guarantees.md").read_text()
    return re.findall(r"^- (.*(?:\n  .*)*)", text, re.MULTILINE)


def test_each_guarantee_names_a_test_and_each_test_is_there():
    there = names_of_tests()
    assert len(guarantees()) > 40
    for sentence in guarantees():
        named = re.findall(r"`(test_\w+)`", sentence)
        assert named, sentence
        assert set(named) <= there, sentence


def test_each_promise_of_security_names_a_test():
    defended = (ROOT / "SECURITY.md").read_text().partition("## What is defended")[2]
    table, *promises = re.split(r"^- ", defended.partition("\n## ")[0], flags=re.MULTILINE)
    assert all("`tests/" in promise for promise in [table, *promises])


def test_the_example_of_the_readme_is_the_example():
    code = re.search(r"```python\n(.*?)```", readme(), re.DOTALL)
    assert code
    assert (ROOT / "examples" / "analyze_website.py").read_text().endswith(code[1])


def readme() -> str:
    return (ROOT / "README.md").read_text()


def test_contributing_is_short():
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) < 120


def test_sql_text_stands_in_its_places_only():
    rooms = {"core", "postgres", "schema", "upkeep"}
    allowed = {"bench/tables.py", "demo/tables.py"}
    sql = re.compile(r"""["']\s*(select|insert into|update|delete from) """)
    with_sql = {
        file.relative_to(ROOT / "pgflow_events")
        for file in files("pgflow_events/**/*.py")
        if sql.search(file.read_text())
    }
    assert [
        str(file)
        for file in with_sql
        if file.parts[0] not in rooms and file.as_posix() not in allowed
    ] == []


def test_what_an_idle_worker_sends_is_told_alike():
    benchmarks = (ROOT / "docs" / "measured" / "benchmarks.md").read_text()
    number = re.search(r"`idle`, statements a minute \| (\d+) ", benchmarks)
    assert number
    assert f"| statements sent by an idle worker | {number[1]} a minute |" in readme()
    assert "an idle worker does not poll" in readme()
    others = "".join((ROOT / doc).read_text() for doc in DOCS)
    assert not re.search(r"idle worker (in an idle database )?sends (\*\*)?no", others)


def test_nothing_imports_asyncio():
    asyncio = re.compile(r"^\s*(import|from) asyncio", re.MULTILINE)
    ours = [file for file in files("*.py", "*.sql") if file.parts[len(ROOT.parts)] in PLACES[:2]]
    assert [file for file in ours if asyncio.search(file.read_text())] == []


def anchors(page: Path) -> set[str]:
    """What a link may name after the `#`, as GitHub makes it of the titles."""
    prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("doc", DOCS, ids=str)
def test_links_lead_to_titles(doc):
    links = re.findall(r"\]\((?!https?:)([^)#]*)#([^)]+)\)", (ROOT / doc).read_text())
    pages = [((ROOT / doc.parent / page) if page else ROOT / doc, title) for page, title in links]
    assert [title for page, title in pages if title not in anchors(page)] == []


def test_the_door_leads_to_every_page():
    door = (ROOT / "docs" / "README.md").read_text()
    pages = [doc.relative_to("docs").as_posix() for doc in DOCS if doc.parts[0] == "docs"]
    assert [page for page in pages if page != "README.md" and f"]({page})" not in door] == []


def way_of_a_task() -> list[list[Path]]:
    """The files of each step of the way, as CONTRIBUTING.md names them."""
    _, _, way = (ROOT / "CONTRIBUTING.md").read_text().partition("## The way of a task")
    steps = re.findall(r"^\d\. (.*(?:\n   .*)*)", way.partition("\n## ")[0], re.MULTILINE)
    return [[ROOT / name for name in re.findall(r"`([\w/.]+)`", step)] for step in steps]


def test_the_way_of_a_task_leads_from_file_to_file():
    way = way_of_a_task()
    assert len(way) > 5
    for (head, *_), (following, *_) in pairwise(way):
        assert hands_on(head, following), f"{head} does not hand on to {following}"
    for step in way:
        for place, file in enumerate(step[1:], 1):
            assert any(hands_on(before, file) for before in step[:place]), f"who calls {file}?"


def test_the_way_of_a_task_ends_where_it_begins():
    way = way_of_a_task()
    assert way[-1][-1] == way[0][0]


def test_a_step_of_the_way_that_were_left_out_would_be_missed():
    heads = [head for head, *_ in way_of_a_task()]
    assert [
        (before, after)
        for before, _, after in zip(heads, heads[1:], heads[2:], strict=False)
        if hands_on(before, after)
    ] == []


def words() -> list[tuple[str, str]]:
    """The words of the glossary, and the cells that say where they are at home."""
    page = (ROOT / "docs" / "inside" / "glossary.md").read_text()
    rows = re.findall(r"^\| (?!word)(.+?) \| .+ \| (.+) \|$", page, re.MULTILINE)
    assert len(rows) > 60
    return rows


@pytest.mark.parametrize(("word", "place"), words())
def test_a_word_is_at_home_where_the_glossary_says(word, place):
    path, *names = re.findall(r"`(.+?)`", place)
    text = (ROOT / path).read_text()
    assert [name for name in names if not re.search(rf"\b{re.escape(name)}\b", text)] == []


def test_no_word_has_two_meanings():
    terms = [term for word, _ in words() for term in word.replace("*", "").split(", ")]
    assert len(terms) == len(set(terms))
