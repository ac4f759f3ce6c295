"""The example that scrapes a site, whose pages fail in the ways of real ones."""

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import psycopg
import pytest
import trio

from pgflow_events import RunFailed

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = ("scrape_site", "faulty_site")


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """The modules of the example, as they are when it begins."""
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setenv("no_proxy", "127.0.0.1")  # which the site sets
    yield {name: importlib.import_module(name) for name in NAMES}
    for name in NAMES:
        del sys.modules[name]


async def scrape(example: dict[str, ModuleType], database: str) -> Any:
    """Scrape the site; the site, which knows what it was asked for."""
    async with example["faulty_site"].faulty_site() as site:
        await example["scrape_site"].main(
            database, [{"sitemap": f"{site.address}/sitemap.xml", "patience": 0.3}]
        )
    return site


def rows(database: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(database) as connection:
        return connection.execute(query).fetchall()


def test_its_demo_scrapes_all_pages_but_the_one_that_is_gone(database, environment):
    printed = subprocess.run(
        [sys.executable, EXAMPLES / "scrape_site.py", "--demo"],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=50,
    ).stdout
    address, _, words = printed.partition("/sitemap.xml: ")
    assert words == "99 pages indexed, 1 lost\n"
    assert rows(database, "select count(*), min(cardinality(links)) from scraped") == [(99, 2)]
    search = (
        "select url, title, links from scraped where words @@ websearch_to_tsquery('\"page 98\"')"
    )
    assert (
        f"{address}/page/98",
        "Page 98 & its neighbours",
        [f"{address}/page/100", f"{address}/page/99"],
    ) in rows(database, search)


def test_it_says_how_to_start_it(environment):
    answer = subprocess.run(
        [sys.executable, EXAMPLES / "scrape_site.py"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        timeout=50,
    )
    assert answer.returncode == 1
    assert "python examples/scrape_site.py --demo" in answer.stderr


async def test_each_page_is_tried_as_often_as_it_makes_sense(
    database, example, capsys, monkeypatch
):
    monkeypatch.setattr(example["faulty_site"], "PAGES", 80)
    site = await scrape(example, database)
    assert capsys.readouterr().out == f"{site.address}/sitemap.xml: 79 pages indexed, 1 lost\n"
    pages = {f"/page/{number}": 1 for number in range(1, 81)}
    again = {"/page/42": 2, "/page/77": 2}
    assert site.asked == {"/robots.txt": 1, "/sitemap.xml": 1} | pages | again
    (error,) = rows(database, "select error_message from pgflow.step_tasks where status = 'failed'")
    assert error == (f"PermanentError: {site.address}/page/13: HTTP Error 404: Not Found",)


async def test_workers_on_other_machines_can_run_it(database, example, cli, worker, monkeypatch):
    monkeypatch.setattr(example["faulty_site"], "PAGES", 12)
    path = str(EXAMPLES / "scrape_site.py")
    worker(path, "--resources", f"{path}:resources", "--slots", "8")
    async with example["faulty_site"].faulty_site() as site:
        given = json.dumps({"sitemap": f"{site.address}/sitemap.xml", "patience": 10})
        start = partial(cli, "start", "scrape_site", given, "--wait", "--json")
        answer = json.loads((await trio.to_thread.run_sync(start)).stdout)
    assert answer["output"] == {
        "report": f"{site.address}/sitemap.xml: 12 pages indexed, none lost"
    }
    assert rows(database, "select count(*) from scraped") == [(12,)]


async def test_nobody_is_alerted_where_no_page_is_lost(database, example, capsys, monkeypatch):
    monkeypatch.setattr(example["faulty_site"], "PAGES", 12)
    site = await scrape(example, database)
    assert capsys.readouterr().out == f"{site.address}/sitemap.xml: 12 pages indexed, none lost\n"
    states = rows(
        database, "select status, skip_reason from pgflow.step_states where step_slug = 'alert'"
    )
    assert states == [("skipped", "condition_unmet")]


async def test_a_sitemap_may_list_nothing_that_a_robot_may_fetch(
    database, example, capsys, monkeypatch
):
    monkeypatch.setattr(example["faulty_site"], "PAGES", 0)
    site = await scrape(example, database)
    assert capsys.readouterr().out == f"{site.address}/sitemap.xml: 0 pages indexed, none lost\n"
    assert site.asked == {"/robots.txt": 1, "/sitemap.xml": 1}


async def test_a_site_of_which_too_much_is_lost_is_not_indexed(database, example, monkeypatch):
    monkeypatch.setattr(example["faulty_site"], "PAGES", 13)
    monkeypatch.setattr(example["faulty_site"], "GONE", ["/page/1", "/page/2"])
    failure = pytest.RaisesExc(RunFailed, match="'page': .*/page/[12]: HTTP Error 404")
    with pytest.RaisesGroup(failure, flatten_subgroups=True):
        await scrape(example, database)
    assert rows(database, "select * from scraped") == []


def test_the_page_on_scraping_shows_what_the_example_does():
    page = EXAMPLES.parent / "docs" / "guide" / "scraping.md"
    code = (EXAMPLES / "scrape_site.py").read_text()
    shown = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    assert len(shown) > 5
    assert [block for block in shown if f"\n\n{block}\n" not in code] == []
