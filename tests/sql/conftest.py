"""The SQL core, in a transaction that is rolled back."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import psycopg
import pytest

from ..parts.models.core import Core


@pytest.fixture
def core(db: psycopg.Connection[Any]) -> Core:
    """The SQL core on each server."""
    return Core(db)


@pytest.fixture
def connect_beside(any_database: str) -> Iterator[Callable[[], psycopg.Connection[Any]]]:
    """Opens other sessions of the same database, which commit each statement."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(psycopg.connect(any_database, autocommit=True))
