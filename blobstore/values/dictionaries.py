"""zstd dictionaries, which hold what the small values of one step have in common.

A page of 5 kB ends before a compressor has learnt much from it. A dictionary that was trained on
some hundred pages of the same step knows their markup from the start.

    content = train(pages)                      # for pgflow.blob_dictionaries
    pages_of_site = Dictionary(7, content)      # 7: the id of that row
    gain(pages_of_site, other_pages)            # e.g. Gain(3.4, 11.8)

A dictionary holds unencrypted pieces of its samples: it is as secret as they are.
"""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import zstandard

# Higher than without a dictionary: for small values it costs microseconds, and saves a fifth.
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

# If the trainer chooses these, it counts the dictionary as part of the compressed size. With few
# samples it then picks segments of 50 bytes, and gains half as much.
SEGMENT_SIZE = 2000
MATCH_SIZE = 8


class Dictionary:
    """Compresses values that resemble the samples of its training. It never changes.

    Any number of threads may use it at the same time. With `DEFAULT_SIZE` it takes 0.5 MiB of
    memory, and 0.7 to 1.1 MiB after its first use.

    Args:
        dictionary_id: Its number in `pgflow.blob_dictionaries`.
        content: The result of `train`.

    Raises:
        ValueError: The content is not a zstd dictionary.
    """

    __slots__ = ("_compressors", "_decompressors", "_id", "_prepared")

    def __init__(self, dictionary_id: int, content: bytes) -> None:
        self._id = dictionary_id
        self._prepared = _prepare(content)
        # Only one thread may use a context at a time: two crash the process or get wrong bytes.
        # A context for each thread and dictionary would fill the memory of a large worker. So a
        # dictionary keeps one, and a thread that finds it in use makes another (in 17 µs).
        self._compressors: deque[zstandard.ZstdCompressor] = deque(maxlen=1)
        self._decompressors: deque[zstandard.ZstdDecompressor] = deque(maxlen=1)

    @property
    def id(self) -> int:
        """Its number in `pgflow.blob_dictionaries`."""
        return self._id

    def compress(self, raw: bytes) -> bytes:
        """Make a zstd frame with a checksum, the size and zstd's number of the dictionary."""
        context = self._compressor()
        content = context.compress(raw)
        if len(raw) <= MAX_SAMPLE_SIZE:  # otherwise it has grown to megabytes
            self._compressors.append(context)
        return content

    def decompress(self, content: bytes, raw_size: int) -> bytes:
        """Read a zstd frame that holds `raw_size` bytes.

        Args:
            content: The result of `compress`.
            raw_size: The size in bytes after decompression. The caller must have memory for it.

        Raises:
            ValueError: The frame is damaged, was made with another dictionary or has another
                size. The size is checked before memory is allocated.
        """
        try:
            # If a frame declares its size, the library ignores max_output_size.
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
    """By which factor compression makes values smaller."""

    plain_ratio: float
    """Without a dictionary."""
    dictionary_ratio: float
    """With the dictionary."""


def train(samples: Sequence[bytes], size: int = DEFAULT_SIZE) -> bytes:
    """Make a dictionary of what these samples have in common.

    The same samples give the same dictionary. At most 1,000 different samples are used, evenly from
    all, and the first 64 KiB of each. The training takes up to half a second and 70 MiB of memory:
    call it in a thread.

    Args:
        samples: Values of one step as bytes, before compression. Some hundred are best, as varied
            as the values of the step.
        size: The largest size of the dictionary in bytes, from 4 KiB to 1 MiB, and 110 KiB by
            default. Short samples give a smaller dictionary.

    Raises:
        ValueError: The size is out of bounds, or the samples are too few, too small or too similar.
            The message says what is needed.
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
        dictionary: The dictionary.
        held_out: Values that it was not trained on. With its samples, the result is too good.

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
    """Prepare a dictionary once for all contexts, before another thread can use it.

    To prepare it a second time frees memory that earlier contexts use, which crashes the process.
    """
    prepared = zstandard.ZstdCompressionDict(content, dict_type=zstandard.DICT_TYPE_FULLDICT)
    try:
        zstandard.ZstdDecompressor(dict_data=prepared)
    except zstandard.ZstdError as error:
        raise ValueError(f"{len(content):,} bytes are not a zstd dictionary: {error}") from error
    try:
        prepared.precompute_compress(level=LEVEL)
    except zstandard.ZstdError as error:  # only a lack of memory (half a megabyte) makes this fail
        raise MemoryError(str(error)) from error
    return prepared


def _taken(samples: Sequence[bytes]) -> Sequence[bytes]:
    # With almost no samples, the trainer reads beyond its memory (zstd issue 4499).
    usable = list(dict.fromkeys(sample for sample in samples if len(sample) >= MIN_SAMPLE_SIZE))
    if len(usable) < MIN_SAMPLES:
        raise ValueError(
            f"too few samples: {len(samples):,} given, {len(usable):,} usable; give at least"
            f" {MIN_SAMPLES} different ones of {MIN_SAMPLE_SIZE} bytes or more, better hundreds"
        )
    count = min(len(usable), MAX_SAMPLES)
    return [usable[n * len(usable) // count][:MAX_SAMPLE_SIZE] for n in range(count)]
