"""Fetch a page, analyze it in two steps that run in parallel, and save the results.

    pgflow-events worker examples/analyze_website.py &
    pgflow-events start analyze_website '{"url": "https://example.com"}' --wait

The page may have megabytes. It goes from step to step like any other value.
"""

import sqlite3
from contextlib import closing
from urllib.request import urlopen

from pgflow_events import Flow

analyze = Flow("analyze_website", input=dict[str, str], max_attempts=3, base_delay=5, timeout=10)


@analyze.step(analyze.input)
def website(run: dict[str, str]) -> str:  # a plain function: it may block, and runs in a thread
    with urlopen(run["url"]) as answer:
        return answer.read().decode("utf-8", "replace")


@analyze.step(website, timeout=30, max_attempts=5)
async def sentiment(page: str) -> float:  # async functions run in trio, not in asyncio
    return (page.count("good") - page.count("bad")) / len(page)


@analyze.step(website)
async def summary(page: str) -> str:
    return page.partition("<title>")[2].partition("</title>")[0]


@analyze.step(analyze.input, sentiment, summary)
def saveToDb(run: dict[str, str], mood: float, text: str) -> None:
    with closing(sqlite3.connect("websites.db")) as db, db:
        db.execute("create table if not exists websites (url primary key, mood, summary)")
        db.execute("insert or replace into websites values (?, ?, ?)", (run["url"], mood, text))
