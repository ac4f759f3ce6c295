"""zstd dictionaries: what the small values of one step have in common, kept once.

A page of 5 kB ends before a compressor has learnt much from it. A dictionary, trained on
some hundred pages of the same step, knows their markup beforehand.

    content = train(pages)                      # for pgflow.blob_dictionaries
    pages_of_site = Dictionary(7, content)      # 7: the id of that row
    gain(pages_of_site, other_pages)            # e.g. Gain(3.4, 11.8)

A dictionary holds pieces of its samples as they are: it is as secret as they are.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import zstandard

# Higher than without a dictionary: of small values it costs microseconds, and saves a fifth.
LEVEL = 9
PLAIN_LEVEL = 3

KIB = 1024

DEFAULT_SIZE = 110 * KIB
MIN_SIZE = 4 * KIB
MAX_SIZE = 1024 * KIB

MIN_SAMPLES = 10
MAX_SAMPLES = 1000
MIN_SAMPLE_SIZE = 64
MAX_SAMPLE_SIZE = 64 * KIB

# Left to find them itself, the trainer counts the dictionary among what it makes smaller:
# where samples are few it ends with shreds of 50 bytes, worth half as much as these.
SEGMENT_SIZE = 2000
MATCH_SIZE = 8


class Dictionary:
    """Compresses values that are like the samples it was trained on; never changes.

    Any number of threads may use it at the same time. With `DEFAULT_SIZE` it takes 0.5 MiB
    of memory, and 0.7 to 1.1 MiB once it was used.

    Args:
        dictionary_id: Its number in `pgflow.blob_dictionaries`.
        content: What `train` gave.

    Raises:
        ValueError: The content is no zstd dictionary.
    """

    __slots__ = ("_compressors", "_decompressors", "_id", "_prepared")

    def __init__(self, dictionary_id: int, content: bytes) -> None:
        self._id = dictionary_id
        self._prepared = _prepare(content)
        # A context is used by one thread at a time: two crash the process or get wrong bytes.
        # One for each thread and dictionary would fill the memory of a large worker, so each
        # dictionary keeps one, and a thread that finds it taken makes its own (in 17 µs).
        self._compressors: deque[zstandard.ZstdCompressor] = deque(maxlen=1)
        self._decompressors: deque[zstandard.ZstdDecompressor] = deque(maxlen=1)

    @property
    def id(self) -> int:
        """Its number in `pgflow.blob_dictionaries`."""
        return self._id

    def compress(self, raw: bytes) -> bytes:
        """Make a zstd frame, with a checksum, the size and the number zstd knows it by."""
        context = self._compressor()
        content = context.compress(raw)
        if len(raw) <= MAX_SAMPLE_SIZE:  # or else it has grown to megabytes
            self._compressors.append(context)
        return content

    def decompress(self, content: bytes, raw_size: int) -> bytes:
        """Read a zstd frame of so many bytes.

        Args:
            content: What `compress` gave.
            raw_size: Bytes that must come out; the caller knows that it has room for them.

        Raises:
            ValueError: It is damaged, was made with another dictionary or has another
                size. The size is checked before memory is taken.
        """
        try:
            # The library believes the frame over its own max_output_size.
            declared = zstandard.frame_content_size(content)
            if declared != raw_size:
                raise ValueError(f"its frame declares {declared:,} bytes, not {raw_size:,}")
            context = self._decompressor()
            raw = context.decompress(content, allow_extra_data=False)
        except zstandard.ZstdError as error:
            raise ValueError(f"{error} (with dictionary {self._id})") from error
        self._decompressors.append(context)
        return raw

    def _compressor(self) -> zstandard.ZstdCompressor:
        try:
            return self._compressors.pop()
        except IndexError:
            return zstandard.ZstdCompressor(
                level=LEVEL, dict_data=self._prepared, write_checksum=True
            )

    def _decompressor(self) -> zstandard.ZstdDecompressor:
        try:
            return self._decompressors.pop()
        except IndexError:
            return zstandard.ZstdDecompressor(dict_data=self._prepared)


class Gain(NamedTuple):
    """How many times smaller values become."""

    plain_ratio: float
    """Without a dictionary."""
    dictionary_ratio: float
    """With it."""


def train(samples: Sequence[bytes], size: int = DEFAULT_SIZE) -> bytes:
    """Make a dictionary of what these samples have in common.

    The same samples give the same dictionary. No more than 1,000 different ones are taken,
    evenly from all, and of each the first 64 KiB. That takes up to half a second and 70 MiB
    of memory: call it in a thread.

    Args:
        samples: Values of one step as bytes, before compression. Some hundred are best,
            from all over what the step sees.
        size: Bytes the dictionary may have, from 4 KiB to 1 MiB. It is shorter where the
            samples are.

    Raises:
        ValueError: The size is out of bounds, or the samples are too few, too small or
            too much the same; the message says what would do.
    """
    if not MIN_SIZE <= size <= MAX_SIZE:
        raise ValueError(f"a dictionary has {MIN_SIZE:,} to {MAX_SIZE:,} bytes, not {size:,}")
    try:
        trained = zstandard.train_dictionary(
            size, list(_taken(samples)), k=SEGMENT_SIZE, d=MATCH_SIZE, split_point=1.0, level=LEVEL
        )
    except zstandard.ZstdError as error:
        raise ValueError(f"these samples make no dictionary ({error}): try others") from error
    return trained.as_bytes()


def gain(dictionary: Dictionary, held_out: Sequence[bytes]) -> Gain:
    """Compress values with and without a dictionary.

    Args:
        dictionary: The one to judge.
        held_out: Values it was not trained on, or else the figure is too good to be true.

    Raises:
        ValueError: There are no values, or only empty ones.
    """
    raw = sum(map(len, held_out))
    if not raw:
        raise ValueError("nothing to compress: give values that the dictionary was not trained on")
    plain = zstandard.ZstdCompressor(level=PLAIN_LEVEL, write_checksum=True)
    return Gain(
        raw / sum(len(plain.compress(value)) for value in held_out),
        raw / sum(len(dictionary.compress(value)) for value in held_out),
    )


def _prepare(content: bytes) -> zstandard.ZstdCompressionDict:
    """Do once what contexts would do one by one, while no other thread knows of it.

    To prepare it for compression again frees what contexts made before go on using, which
    crashes the process.
    """
    prepared = zstandard.ZstdCompressionDict(content, dict_type=zstandard.DICT_TYPE_FULLDICT)
    try:
        zstandard.ZstdDecompressor(dict_data=prepared)
    except zstandard.ZstdError as error:
        raise ValueError(f"{len(content):,} bytes are not a zstd dictionary: {error}") from error
    try:
        prepared.precompute_compress(level=LEVEL)
    except zstandard.ZstdError as error:  # what can be read can be written, given half a megabyte
        raise MemoryError(str(error)) from error
    return prepared


def _taken(samples: Sequence[bytes]) -> Sequence[bytes]:
    # A trainer given next to nothing reads beyond its memory (zstd issue 4499).
    usable = list(dict.fromkeys(sample for sample in samples if len(sample) >= MIN_SAMPLE_SIZE))
    if len(usable) < MIN_SAMPLES:
        raise ValueError(
            f"too few samples: {len(samples):,} given, {len(usable):,} usable; give at least"
            f" {MIN_SAMPLES} different ones of {MIN_SAMPLE_SIZE} bytes or more, better hundreds"
        )
    count = min(len(usable), MAX_SAMPLES)
    return [usable[n * len(usable) // count][:MAX_SAMPLE_SIZE] for n in range(count)]
