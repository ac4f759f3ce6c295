"""A fresh database for each measurement, and what the server counts in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import psycopg
import trio
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

COUNTERS = """
select xact_commit, pg_current_wal_insert_lsn() - '0/0'::pg_lsn, pg_database_size(datname)
from pg_stat_database where datname = %s
"""

SESSIONS = """
select count(*) from pg_stat_activity where datname = %s and backend_type = 'client backend'
"""

STATEMENTS = """
select coalesce(sum(calls), 0)::bigint from pg_stat_statements
where dbid = (select oid from pg_database where datname = %s)
"""


@dataclass(frozen=True)
class Counters:
    """What a database has cost so far."""

    transactions: int
    wal: int
    size: int

    def __sub__(self, other: "Counters") -> "Counters":
        return Counters(
            self.transactions - other.transactions, self.wal - other.wal, self.size - other.size
        )


class Database:
    """One of the server's databases."""

    def __init__(self, admin: psycopg.Connection[Any], dsn: str, name: str) -> None:
        self._admin = admin
        self.name = name
        self.dsn = make_conninfo(dsn, dbname=name)

    @property
    def url(self) -> str:
        """Its address for those who know no other form."""
        parts = conninfo_to_dict(self.dsn)
        login = quote(str(parts.get("user", "")), safe="")
        if password := parts.get("password"):
            login += f":{quote(str(password), safe='')}"
        host, port = str(parts.get("host", "")), parts.get("port", 5432)
        if host.startswith("/"):
            return f"postgresql://{login}@/{self.name}?host={quote(host, safe='')}&port={port}"
        return f"postgresql://{login}@{host or 'localhost'}:{port}/{self.name}"

    def counters(self) -> Counters:
        """As the sessions have reported them, which they do at the latest when they end."""
        return Counters(*map(int, self._row(COUNTERS)))

    def sessions(self) -> int:
        """How many clients are connected."""
        return int(self._row(SESSIONS)[0])

    def statements(self) -> int:
        """How many statements clients have sent."""
        return int(self._row(STATEMENTS)[0])

    async def left(self) -> None:
        """Wait until no client is connected."""
        while True:  # no event tells of it
            if not self.sessions():
                return
            await trio.sleep(0.02)

    def _row(self, query: str) -> Any:
        (row,) = self._admin.execute(query, [self.name]).fetchall()
        return row


class Server:
    """Where databases are made."""

    def __init__(self, admin: psycopg.Connection[Any], dsn: str) -> None:
        self._admin = admin
        self._dsn = dsn
        self._made = 0

    @contextmanager
    def database(self, template: str = "template1") -> Iterator[Database]:
        """A copy of another one, dropped at the end."""
        self._made += 1
        name = f"bench_peers_{self._made}"
        made, copied = sql.Identifier(name), sql.Identifier(template)
        self._admin.execute(sql.SQL("drop database if exists {} with (force)").format(made))
        self._admin.execute(sql.SQL("create database {} template {}").format(made, copied))
        try:
            yield Database(self._admin, self._dsn, name)
        finally:
            self._admin.execute(sql.SQL("drop database {} with (force)").format(made))


@contextmanager
def connect(dsn: str) -> Iterator[Server]:
    """A session from which databases are made and watched."""
    with psycopg.connect(dsn, autocommit=True) as admin:
        admin.execute("create extension if not exists pg_stat_statements")
        yield Server(admin, dsn)
