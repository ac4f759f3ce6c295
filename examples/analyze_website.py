"""Fetch a page, look at it in two ways at once, and save what was found.

    website ──┬─> sentiment ─┬─> save
              └─> summary ───┘

The page may have megabytes: it goes from step to step like any other value.
"""

import json
from html.parser import HTMLParser
from typing import TypedDict
from urllib.request import urlopen

import trio

from pgflow_events import Context, Flow, PermanentError


class Website(TypedDict):
    url: str


class Page(TypedDict):
    url: str
    html: str


class Sentiment(TypedDict):
    good: int
    bad: int


class Saved(TypedDict):
    path: str


GOOD = {"fast", "good", "great", "simple", "nice"}
BAD = {"bad", "broken", "slow", "ugly", "wrong"}

analyze = Flow("analyze_website", input=Website, max_attempts=3, base_delay=5, timeout=60)


class Words(HTMLParser):
    """Collects the words of a page that a reader sees."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self._hidden = 0
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._hidden += tag in {"script", "style"}

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in {"script", "style"}

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.found += data.split()


# urllib blocks, so this is a plain function: it runs in a thread.
@analyze.step(analyze.input, timeout=30, max_attempts=5)
def website(run: Website) -> Page:
    url = run["url"]
    if not url.startswith(("http://", "https://")):
        raise PermanentError(f"{url!r} is no address of a web page")
    with urlopen(url, timeout=20) as answer:  # noqa: S310 - the scheme is checked above
        charset = answer.headers.get_content_charset("utf-8")
        return {"url": url, "html": answer.read().decode(charset, "replace")}


# Reading megabytes takes more than a millisecond: this would hold up trio's other tasks.
@analyze.step(website)
def sentiment(page: Page) -> Sentiment:
    words = [word.strip(".,;:!?").lower() for word in Words(page["html"]).found]
    return {"good": sum(w in GOOD for w in words), "bad": sum(w in BAD for w in words)}


@analyze.step(website)
def summary(page: Page) -> str:
    return " ".join(Words(page["html"]).found[:40])


@analyze.step(analyze.context, analyze.input, sentiment, summary)
async def save(context: Context, run: Website, mood: Sentiment, text: str) -> Saved:
    # Named by the run: a second attempt writes the same file again.
    path = trio.Path(context.resources["folder"]) / f"{context.run_id}.json"
    await path.write_text(json.dumps({**run, "mood": mood, "summary": text}))
    context.log.info("saved %s", path)
    return {"path": str(path)}


if __name__ == "__main__":
    print(json.dumps(analyze.definition(), indent=2))
