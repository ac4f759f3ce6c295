"""What is done about the memory of large values, seen in a process of its own."""

import os
import subprocess
import sys

import pytest

from pgflow_events.service import malloc
from pgflow_events.worker.worker import Worker

# How many blocks of 8 MiB are mapped one by one, once a larger one was freed.
MAPPED = """
import ctypes, runpy, sys
map_large_blocks = runpy.run_path(sys.argv[1])["map_large_blocks"]

class Info(ctypes.Structure):
    names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in names.split()]

def blocks():
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = Info
    return mallinfo2().hblks

map_large_blocks()
del_me = bytes(31 * 1024 * 1024)
del del_me
before = blocks()
values = [bytes(8 * 1024 * 1024) for _ in range(4)]
print(blocks() - before)
"""


def mapped(**environment: str) -> int:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", MAPPED, malloc.__file__]
    answer = subprocess.run(command, env=kept | environment, capture_output=True, check=True)
    return int(answer.stdout)


@pytest.mark.skipif(not malloc.is_glibc(), reason="there is no glibc")
def test_large_blocks_are_mapped_unless_the_user_says_something_of_malloc():
    assert mapped() == 4
    assert mapped(PYTHONMALLOC="malloc") == 4
    assert mapped(GLIBC_TUNABLES="glibc.cpu.x86_ibt=off") == 4
    # These say what holds anyway, but they say it.
    assert mapped(MALLOC_ARENA_TEST="8") == 0
    assert mapped(GLIBC_TUNABLES="glibc.malloc.arena_test=8") == 0


@pytest.mark.parametrize("answer", [None, "", "NPTL 2.36", ValueError(), OSError()], ids=repr)
def test_without_glibc_nothing_is_done(monkeypatch, answer):
    def confstr(name: str) -> str | None:
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(os, "confstr", confstr)
    assert not malloc.map_large_blocks({})


async def test_a_worker_does_it_however_it_is_started(monkeypatch, tmp_path):
    class Done(Exception):
        pass

    def map_large_blocks() -> None:
        raise Done

    monkeypatch.setattr("pgflow_events.worker.worker.map_large_blocks", map_large_blocks)
    with pytest.raises(Done):
        await Worker([], f"host={tmp_path}").run()
