"""Scrape a web site by its sitemap: a task of its own fetches each page, and another one reads it.

    python examples/scrape_site.py https://docs.python.org/sitemap.xml
    python examples/scrape_site.py --demo    # a site on this machine, with the faults of real ones

PGFLOW_DSN or libpq's variables name the database. Without them, the program starts an embedded one.
"""

import logging
import re
import sys
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from html import unescape
from typing import Any, TypedDict
from urllib.error import HTTPError
from urllib.parse import urljoin
from urllib.request import Request, urlopen
from urllib.robotparser import RobotFileParser

import trio
from faulty_site import faulty_site

from pgflow_events import (
    Blob,
    Context,
    EmbeddedServer,
    Flow,
    PermanentError,
    Settings,
    Worker,
    connect,
    migrate_now,
)
from pgflow_events.postgres.pool import Pool
from pgflow_events.settings import dsn_from_environment

AGENT = "example-scraper"
LASTING = {400, 401, 403, 404, 410, 451}  # another attempt would get the same answer

TABLE = """
create table if not exists public.scraped
(url text primary key, title text, links text[], words tsvector)
"""
SAVE = """
insert into public.scraped values (%s, %s, %s, to_tsvector('english', %s))
on conflict (url) do update
set title = excluded.title, links = excluded.links, words = excluded.words
"""


class Site(TypedDict):
    sitemap: str
    patience: float  # seconds that the server may be silent


class Page(TypedDict):
    title: str
    text: str
    links: list[str]


Counts = dict[str, int]

crawl = Flow("scrape_site", input=Site, max_attempts=3, base_delay=1)


def fetch(url: str, patience: float) -> str:
    request = Request(url, headers={"User-Agent": AGENT})
    try:
        with urlopen(request, timeout=patience) as answer:
            return str(answer.read(), answer.headers.get_content_charset("utf-8"), "replace")
    except HTTPError as error:
        error.close()
        if error.code in LASTING:
            raise PermanentError(f"{url}: {error}") from error
        raise


@crawl.step(crawl.input)
def links(site: Site) -> list[str]:  # urllib blocks, and a plain function runs in a thread
    try:
        rules = fetch(urljoin(site["sitemap"], "/robots.txt"), site["patience"])
    except PermanentError:
        rules = ""  # without a robots.txt, all is allowed
    robots = RobotFileParser()
    robots.parse(rules.splitlines())
    listed = re.findall(r"<loc>\s*(.*?)\s*</loc>", fetch(site["sitemap"], site["patience"]))
    return [url for url in map(unescape, listed) if robots.can_fetch(AGENT, url)]


@crawl.step(links.each, crawl.input, timeout=30, lost="none", tolerate=0.1)
def page(url: str, site: Site) -> str:  # has attempts of its own; if none is left, None follows
    return fetch(url, site["patience"])


@crawl.step(page.each)
def read(html: str | None) -> Page | None:
    if html is None:
        return None
    title = re.search(r"<title[^>]*>(.*?)</title>", html, re.DOTALL | re.IGNORECASE)
    return {
        "title": unescape(title[1]).strip() if title else "",
        "text": unescape(re.sub(r"<(script|style)\b.*?</\1>|<[^>]*>", " ", html, flags=re.DOTALL)),
        "links": re.findall(r'<a [^>]*href="([^"#]+)', html),
    }


@crawl.step(crawl.context, links, read.blob, timeout=600)
async def index(context: Context, urls: list[str], pages: Blob[list[Page | None]]) -> Counts:
    lost = 0
    async with context.resources["pool"].connection() as connection:
        remaining = iter(urls)
        async for found in pages.items():  # a few of them at a time are in memory
            url = next(remaining)
            if found:
                targets = sorted({urljoin(url, link) for link in found["links"]})
                row = [url, found["title"], targets, found["text"]]
                await connection.execute(SAVE, row)  # a retry may execute this twice
            else:
                lost += 1
    return {"pages": len(urls) - lost, "lost": lost}


@crawl.step(index, run_unless=index.contains({"lost": 0}))  # is skipped if no page is lost
def alert(counts: Counts) -> str:
    return f"{counts['lost']} lost"


@crawl.step(crawl.input, index, alert.or_none)
def report(site: Site, counts: Counts, alerted: str | None) -> str:
    return f"{site['sitemap']}: {counts['pages']} pages indexed, {alerted or 'none lost'}"


@asynccontextmanager
async def resources(dsn: str = dsn_from_environment() or "") -> AsyncGenerator[dict[str, Any]]:
    async with Pool(dsn) as pool:
        async with pool.connection() as connection:
            await connection.execute(TABLE)
        yield {"pool": pool}


async def main(dsn: str, sites: Sequence[Site]) -> None:
    settings = Settings(slots=8)  # the most pages that are fetched at once
    worker = Worker([crawl], dsn, settings=settings, resources=partial(resources, dsn))
    async with trio.open_nursery() as nursery, connect(dsn) as client:
        await nursery.start(worker.run)
        for run in await client.start_many(crawl, sites):
            print(await run.output(report))
        worker.stop()


async def demo(dsn: str) -> None:
    logging.disable(logging.WARNING)  # the failures are meant
    async with faulty_site() as site:
        await main(dsn, [Site(sitemap=f"{site.address}/sitemap.xml", patience=1)])


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit(__doc__)
    given = dsn_from_environment()
    with EmbeddedServer() if given is None else nullcontext() as server:
        dsn = server.dsn if server else given or ""
        migrate_now(dsn)
        if sys.argv[1:] == ["--demo"]:
            trio.run(demo, dsn)
        else:
            trio.run(main, dsn, [Site(sitemap=url, patience=10) for url in sys.argv[1:]])
