"""The flows of the demo.

    website ─┬─> links ───┬─> save        pages ═══> count        woken
             ├─> words ───┤
             └─> summary ─┘

The step `pages` has a task for each page. Handlers that take more than a millisecond are plain
functions, which run in threads.
"""

import re
import time
from collections import Counter
from hashlib import sha256
from html import unescape
from typing import TypedDict
from urllib.error import HTTPError
from urllib.parse import urljoin
from urllib.request import urlopen

from blobstore import Blob
from pgflow_events.demo import tables as queries
from pgflow_events.errors import PermanentError
from pgflow_events.flow.flow import Context, Flow

TAG = re.compile(r"<(script|style)\b.*?</\1>|<[^>]*>", re.DOTALL | re.IGNORECASE)
TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.DOTALL | re.IGNORECASE)
HREF = re.compile(r"""<a\b[^>]*?\bhref=["']([^"'#]+)""", re.IGNORECASE)


class Summary(TypedDict):
    """The facts about a page."""

    title: str
    bytes: int
    sha256: str


class Saved(TypedDict):
    """The counts of a page."""

    links: int
    words: int


class Count(TypedDict):
    """The counts of a bundle."""

    pages: int
    bytes: int


def fetch(url: str) -> str:
    """Fetch the HTML at a URL."""
    try:
        with urlopen(url, timeout=20) as answer:  # noqa: S310 - run() has checked the scheme
            charset = answer.headers.get_content_charset("utf-8")
            html: str = answer.read().decode(charset, "replace")
            return html
    except HTTPError as error:
        if error.code < 500:  # noqa: PLR2004 - from 500 on, the server is at fault
            raise PermanentError(f"{url}: {error}") from error
        raise


def visible(html: str) -> str:
    """The text of a page, without its tags."""
    return unescape(TAG.sub(" ", html))


scrape = Flow("pgflow_scrape", input=str, base_delay=1)


@scrape.step(scrape.input, timeout=30)
def website(url: str) -> str:
    """Fetch a page, which may have megabytes."""
    return fetch(url)


@scrape.step(scrape.input, website)
def links(url: str, html: str) -> list[str]:
    """The links of the page to the web."""
    found = {urljoin(url, unescape(href)) for href in HREF.findall(html)}
    return sorted(link for link in found if link.startswith("http"))


@scrape.step(website)
def words(html: str) -> dict[str, int]:
    """How often each word occurs."""
    return dict(Counter(re.findall(r"\w+", visible(html).lower())))


@scrape.step(website)
def summary(html: str) -> Summary:
    """The title, size and digest of the page."""
    title = TITLE.search(html)
    data = html.encode()
    return {
        "title": unescape(title[1]).strip() if title else "",
        "bytes": len(data),
        "sha256": sha256(data).hexdigest(),
    }


@scrape.step(scrape.context, scrape.input, links, words, summary)
async def save(
    context: Context, url: str, found: list[str], counted: dict[str, int], page: Summary
) -> Saved:
    """Write a row of the demo's table."""
    counts: Saved = {"links": len(found), "words": sum(counted.values())}
    async with context.resources["pool"].connection() as connection:
        await queries.save_page(connection, {"url": url, **page, **counts})
    return counts


bundle = Flow("pgflow_bundle", input=list[str], base_delay=1)


@bundle.step(bundle.input.each)
def pages(url: str) -> str:
    """Fetch one of the pages."""
    return fetch(url)


@bundle.step(pages.blob)
async def count(htmls: Blob[list[str]]) -> Count:
    """Count the pages that arrived, without having all of them in memory."""
    sizes = [len(html.encode()) async for html in htmls.items()]
    return {"pages": len(sizes), "bytes": sum(sizes)}


wake = Flow("pgflow_wake", input=int, max_attempts=1)


@wake.step()
async def woken() -> float:
    """The time, by a clock that all processes of a machine share."""
    return time.monotonic()


FLOWS = (scrape, bundle, wake)
