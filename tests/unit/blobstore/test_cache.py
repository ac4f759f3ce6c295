"""The cache of payloads."""

import sys
from uuid import uuid4

from blobstore.cache import Cache
from blobstore.values.codec import Payload

A, B, C = uuid4(), uuid4(), uuid4()


def payload(size: int) -> Payload:
    return Payload("bytes", bytes(size - sys.getsizeof(b"")))


def test_the_one_used_longest_ago_makes_room():
    cache = Cache(300)
    cache.put(A, payload(100))
    cache.put(B, payload(100))
    cache.put(C, payload(100))
    assert cache.get(A) is not None
    cache.put(uuid4(), payload(100))
    assert cache.get(B) is None
    assert cache.get(A) is not None
    assert cache.get(C) is not None


def test_it_keeps_to_its_budget():
    cache = Cache(1000)
    for size in (40, 400, 999, 1000, 60, 333, 500, 200):
        cache.put(uuid4(), payload(size))
        assert 0 < cache.size <= 1000
    assert cache.size == 500 + 200


def test_what_is_larger_than_the_budget_is_not_kept_and_displaces_nothing():
    cache = Cache(1000)
    cache.put(A, payload(1000))
    cache.put(B, payload(1001))
    assert cache.get(B) is None
    assert cache.get(A) is not None


def test_putting_twice_counts_once():
    cache = Cache(1000)
    cache.put(A, payload(600))
    cache.put(A, payload(600))
    assert cache.size == 600
    assert cache.get(A) is not None


def test_a_text_counts_with_the_memory_it_takes():
    cache = Cache(10_000)
    cache.put(A, Payload("text", "x" * 4000))
    cache.put(B, Payload("text", "\N{PILE OF POO}" + "x" * 3999))
    assert cache.get(A) is not None
    assert cache.get(B) is None
