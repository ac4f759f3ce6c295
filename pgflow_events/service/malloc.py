"""Has glibc return the memory of large values to the system.

glibc maps large blocks one by one, and unmaps them when they are freed. But each time, it raises
the size from which on it does so, up to 32 MiB. Smaller blocks then come from the heaps of threads,
which keep freed blocks. `python -m tests.bench memory` measures the effect.
"""

import os
from collections.abc import Mapping

M_MMAP_THRESHOLD = -3  # of <malloc.h>
LARGE = 1024 * 1024  # bytes


def map_large_blocks(environment: Mapping[str, str] = os.environ) -> bool:
    """Have blocks of 1 MiB or more mapped one by one. Return whether that was done.

    It applies to the whole process. It is not done if the C library is not glibc, or if the
    environment configures malloc, by `MALLOC_…` or `GLIBC_TUNABLES`.
    """
    if not is_glibc() or _is_set(environment):
        return False
    import ctypes  # noqa: PLC0415 - takes milliseconds, and only workers on Linux need it

    return bool(ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE))


def is_glibc() -> bool:
    """Whether the C library of this process is glibc."""
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").startswith("glibc")
    except (ValueError, OSError):  # macOS and musl do not know the name
        return False


def _is_set(environment: Mapping[str, str]) -> bool:
    """Whether the environment configures malloc."""
    tunables = environment.get("GLIBC_TUNABLES", "")
    return "glibc.malloc." in tunables or any(name.startswith("MALLOC_") for name in environment)
