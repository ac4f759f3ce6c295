"""Pass a file of any size between steps. No worker ever holds all of it in memory.

On the command line:

    pgflow-events worker examples/large_files.py &
    pgflow-events start large_files '{"path": "README.md"}' --wait
"""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypedDict

from pgflow_events import Blob, Flow


class Source(TypedDict):
    path: str


large_files = Flow("large_files", input=Source, timeout=3600, keep_output=0)


@large_files.step(large_files.input)
def file(run: Source) -> Path:  # the bytes of the file are stored, a chunk at a time
    return Path(run["path"])


@large_files.step(file.blob)
async def upper(content: Blob[bytes]) -> AsyncIterator[bytes]:  # what it yields is stored
    async with content.open() as stream:
        async for piece in stream:
            yield piece.upper()


@large_files.step(upper.blob)
async def lines(content: Blob[bytes]) -> int:
    count = 0
    async with content.open() as stream:
        async for piece in stream:
            count += piece.count(b"\n")
    return count


@large_files.step(file.blob, upper.blob, lines)
async def report(original: Blob[bytes], changed: Blob[bytes], count: int) -> dict[str, object]:
    head = await original.read(0, 80)  # reads only the first chunk of a large value
    return {
        "lines": count,
        "bytes": [original.size, changed.size],
        "sha256": original.sha256,
        "begins": head.decode("utf-8", "replace"),
    }
