"""Keeps the connections of a process from the children that it forks."""

import os
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import psycopg

_made: WeakSet[psycopg.AsyncConnection[Any]] = WeakSet()


def keep_from_children(connection: psycopg.AsyncConnection[Any]) -> None:
    """Let no child have this connection."""
    _made.add(connection)


def _let_go() -> None:
    """In a process that was forked, close its copies of the sockets, and tell the server nothing.

    A child that outlives its parent would else keep the server from noticing that this one died.
    """
    for connection in list(_made):
        with suppress(psycopg.Error, OSError):
            os.close(connection.pgconn.socket)


os.register_at_fork(after_in_child=_let_go)
