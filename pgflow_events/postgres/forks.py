"""Closes the connections of a process in the children that it forks."""

import os
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import psycopg

_made: WeakSet[psycopg.AsyncConnection[Any]] = WeakSet()


def keep_from_children(connection: psycopg.AsyncConnection[Any]) -> None:
    """Close this connection in forked children."""
    _made.add(connection)


def _let_go() -> None:
    """In a forked child, close its copies of the sockets, without a message to the server.

    Otherwise the server would not notice the death of the parent while the child lives.
    """
    for connection in list(_made):
        with suppress(psycopg.Error, OSError):
            os.close(connection.pgconn.socket)


os.register_at_fork(after_in_child=_let_go)
