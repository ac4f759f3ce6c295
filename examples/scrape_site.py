"""Scrape web pages into a table. The worker and the client share one process.

    python examples/scrape_site.py https://www.python.org/ https://trio.readthedocs.io/

PGFLOW_DSN or libpq's variables name the database. Without them, the program starts an embedded one.
"""

import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from typing import Any
from urllib.parse import urljoin
from urllib.request import urlopen

import trio

from pgflow_events import Context, EmbeddedServer, Flow, Worker, connect, migrate_now
from pgflow_events.postgres.pool import Pool
from pgflow_events.settings import dsn_from_environment

TABLE = "create table if not exists public.scraped (url text primary key, title text, links text[])"
SAVE = """
insert into public.scraped values (%s, %s, %s)
on conflict (url) do update set title = excluded.title, links = excluded.links
"""

scrape = Flow("scrape_site", input=str)


@scrape.step(scrape.input, timeout=30)
def website(url: str) -> str:  # urllib blocks, and a plain function runs in a thread
    with urlopen(url, timeout=20) as answer:
        return str(answer.read(), answer.headers.get_content_charset("utf-8"), "replace")


@scrape.step(scrape.input, website)
def links(url: str, html: str) -> list[str]:
    return sorted({urljoin(url, href) for href in re.findall(r'<a [^>]*href="([^"#]+)', html)})


@scrape.step(website)
def title(html: str) -> str:
    found = re.search(r"<title[^>]*>(.*?)</title>", html, re.DOTALL | re.IGNORECASE)
    return found[1].strip() if found else ""


@scrape.step(scrape.context, scrape.input, links, title)
async def save(context: Context, url: str, links: list[str], title: str) -> str:
    async with context.resources["pool"].connection() as connection:
        await connection.execute(SAVE, [url, title, links])  # a retry may execute this twice
    return f"{url}: {title}, {len(links)} links"


@asynccontextmanager
async def resources(dsn: str) -> AsyncIterator[dict[str, Any]]:
    async with Pool(dsn) as pool:
        async with pool.connection() as connection:
            await connection.execute(TABLE)
        yield {"pool": pool}


async def main(dsn: str, urls: Sequence[str]) -> None:
    worker = Worker([scrape], dsn, resources=partial(resources, dsn))
    async with trio.open_nursery() as nursery, connect(dsn) as client:
        await nursery.start(worker.run)
        for run in await client.start_many(scrape, urls):
            print(await run.output(save))
        worker.stop()


if __name__ == "__main__":
    given = dsn_from_environment()
    with EmbeddedServer() if given is None else nullcontext() as server:
        dsn = server.dsn if server else given or ""
        migrate_now(dsn)
        trio.run(main, dsn, sys.argv[1:])
