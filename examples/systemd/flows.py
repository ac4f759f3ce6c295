"""The flow of the service: measures web pages, and writes their sizes to the service's folder."""

import os
from pathlib import Path
from urllib.request import urlopen

from pgflow_events import Flow

pages = Flow("measure_pages", max_attempts=3, timeout=30)


@pages.step(pages.input)
def page(run: dict[str, str]) -> bytes:
    with urlopen(run["url"]) as answer:
        return answer.read()


@pages.step(pages.input, page)
def note(run: dict[str, str], content: bytes) -> int:
    # The rest of the file system is read-only.
    with Path(os.environ["STATE_DIRECTORY"], "sizes.txt").open("a") as notes:
        notes.write(f"{len(content)} {run['url']}\n")
    return len(content)
