"""Which compression level, whether to train a dictionary, and from what size on a value is a blob.

Compressing is measured in memory, on the corpora of `corpus.py`, storing by `storing.py`.
"""

import resource
import timeit
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import psycopg
import trio
from psycopg.types.json import set_json_loads

from blobstore.values.dictionaries import Dictionary, gain, train
from pgflow_events.bench.measured import Measured
from tests.bench import corpus
from tests.bench.measuring import in_process
from tests.bench.storing import (
    ROUNDS,
    Blob,
    Codec,
    Connection,
    Cost,
    Inline,
    Zstd,
    compare,
    mean,
)

KIB = 1024
LEVELS = (1, 3, 6, 9)
SIZES = [512 * 2**power for power in range(9)]  # to 128 KiB
THRESHOLDS = [KIB * 2**power for power in range(7)]  # to 64 KiB
VALUES = 240
DICTIONARIES = 100


async def sizes(dsn: str) -> list[Measured]:
    """Ratios and speeds for each corpus; costs for each size, threshold and way."""
    result: dict[str, float] = {}
    for each in corpus.corpora():
        result |= await trio.to_thread.run_sync(compressing, each)
    site = corpus.site()
    result |= gains() | await in_process(memory, train(site.training), site.held_out[0])
    with psycopg.connect(dsn) as connection:
        set_json_loads(orjson.loads, connection)
        for name, values in (("text", corpus.texts), ("JSON", corpus.lists)):
            result |= await trio.to_thread.run_sync(thresholds, connection, name, values)
        result |= await trio.to_thread.run_sync(small_pages, connection)
    return by_setting(result)


def by_setting(result: dict[str, float]) -> list[Measured]:
    """The figures of each setting, whose name stands before the colon."""
    figures: dict[str, dict[str, float]] = {}
    for name, value in result.items():
        setting, _, figure = name.rpartition(": ")
        figures.setdefault(setting, {})[figure] = value
    return [Measured(setting=setting, unit="", ours=ours) for setting, ours in figures.items()]


def compressing(each: corpus.Corpus) -> dict[str, float]:
    """Ratio and speeds on what was held out, at each level and with a dictionary."""
    codecs: dict[str, Codec] = {f"level {level}": Zstd(level) for level in LEVELS}
    codecs["dictionary"] = Dictionary(1, train(each.training))
    result: dict[str, float] = {}
    for name, codec in codecs.items():
        ratio, compress, decompress = performance(codec, each.held_out)
        result |= {
            f"{each.name}, {name}: ratio": ratio,
            f"{each.name}, {name}: compress MB/s": compress,
            f"{each.name}, {name}: decompress MB/s": decompress,
        }
    return result


def performance(codec: Codec, values: Sequence[bytes]) -> tuple[float, float, float]:
    """How many times smaller values become, and megabytes a second there and back."""
    size = sum(map(len, values))
    frames = [(codec.compress(value), len(value)) for value in values]
    ways = (
        lambda: [codec.compress(value) for value in values],
        lambda: [codec.decompress(*frame) for frame in frames],
    )
    compress, decompress = (min(timeit.repeat(way, number=1, repeat=ROUNDS)) for way in ways)
    ratio = size / sum(len(frame) for frame, _ in frames)
    return ratio, size / compress / 1e6, size / decompress / 1e6


def gains() -> dict[str, float]:
    """What a dictionary gains where training saw other sections, few pages, or all sizes."""
    result: dict[str, float] = {}
    for each in corpus.trainings():
        plain, with_dictionary = gain(Dictionary(1, train(each.training)), each.held_out)
        result |= {
            f"{each.name}: ratio": plain,
            f"{each.name}: ratio with dictionary": with_dictionary,
        }
    return result


def memory(content: bytes, page: bytes) -> dict[str, float]:
    """What a dictionary takes, unused and used; in a process that does nothing else."""
    dictionaries = [Dictionary(0, content)]
    before = resident()
    dictionaries += (Dictionary(n, content) for n in range(DICTIONARIES))
    result = {"dictionary, unused: KiB": (resident() - before) / DICTIONARIES}
    for name, value in (("5 kB", page), ("64 KiB", (page * 64)[: 64 * KIB])):
        for each in dictionaries:
            each.decompress(each.compress(value), len(value))
        result[f"dictionary, used for {name}: KiB"] = (resident() - before) / DICTIONARIES
    return result


def resident() -> float:
    """KiB of memory that this process has; Linux tells."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize() / KIB


def thresholds(
    connection: Connection, name: str, values_of: Callable[[int], Iterator[Any]]
) -> dict[str, float]:
    """Costs at each size both ways; then of all sizes alike, with each threshold."""
    costs: dict[tuple[str, int], Cost] = {}
    result: dict[str, float] = {}
    for size in SIZES:
        values = list(islice(values_of(size), VALUES))
        for way, cost in compare(
            connection, values, {"inline": Inline(), "blob": Blob(Zstd(3))}
        ).items():
            costs[way, size] = cost
            result |= figures(f"{name} of {size / KIB:g} KiB, {way}", cost)
    for threshold in THRESHOLDS:
        mixed = [costs["inline" if size <= threshold else "blob", size] for size in SIZES]
        result |= figures(f"{name} of all sizes, threshold {threshold // KIB} KiB", mean(mixed))
    return result


def small_pages(connection: Connection) -> dict[str, float]:
    """Costs of 5 kB pages of one site: inline, compressed, compressed with a dictionary."""
    site = corpus.site()
    dictionary = Dictionary(1, train(site.training))
    ways = {"inline": Inline(), "blob": Blob(Zstd(3)), "dictionary": Blob(dictionary)}
    result: dict[str, float] = {}
    for way, cost in compare(connection, [page.decode() for page in site.held_out], ways).items():
        result |= figures(f"small pages, {way}", cost)
    return result


def figures(name: str, cost: Cost) -> dict[str, float]:
    """A line for each."""
    return {f"{name}: {figure.replace('_', ' ')}": value for figure, value in asdict(cost).items()}
