"""The SQL core, in a transaction that is rolled back."""

from typing import Any

import psycopg
import pytest

from .core import Core


@pytest.fixture
def core(db: psycopg.Connection[Any]) -> Core:
    """The SQL core on each server."""
    return Core(db)
