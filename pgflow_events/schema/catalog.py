"""Reads from the SQL files what they create, and finds out what a database lacks of it."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass

from pgflow_events.postgres.connection import Connection

# The statements of migrations that create, rename or drop something.
CHANGE = re.compile(
    r"""
    ^create\ (?:table|type)\ pgflow\.(?P<made>\w+)
    (?:\ partition\ of\ pgflow\.(?P<whole>\w+)\ default | (?P<body>\ \(.*?\n\)))?
    | ^create\ (?:view|sequence)\ pgflow\.(?P<again>\w+)[^;]*
    | ^create\ (?:unique\ )?index\ (?P<index>\w+)\ on\ pgflow\.(?P<indexed>\w+)[^;]*
    | ^alter\ (?:table|view)\ pgflow\.(?P<old>\w+)\ rename\ to\ (?P<new>\w+)
    | ^drop\ (?:table|type)\ (?:if\ exists\ )?pgflow\.(?P<dropped>\w+)
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
KEY = re.compile(r"^  primary key \((.*?)\)|^  (\w+) [^\n]*?\bprimary key\b", re.MULTILINE)
FUNCTION = re.compile(
    r"^create or replace function pgflow\.(\w+)\(.*?^as \$(\w*)\$(.*?)\$\2\$;",
    re.MULTILINE | re.DOTALL,
)
TRIGGER = re.compile(
    r"^create or replace trigger (\w+)\n[^\n]* on pgflow\.(\w+)", re.MULTILINE | re.DOTALL
)

# What `alterations.py` finds.
ALTERED = {
    "unlogged": "{} is unlogged, so a crash of the server empties it",
    "row security": "{} has row level security, which hides rows",
    "rule": "the rule {} changes what statements do",
    "view": "the view {} was changed",
}

MIGRATE = "run `pgflow-events migrate`"
BACKUP = "restore it from a backup; no command creates it again"

# Living workers hold numbers that were given before the sequence was lost.
COUNT_SEATS = """
select setval('pgflow.seats', max(seat)) from pgflow.worker_seats having max(seat) is not null
"""

THERE = """
select 'relation', c.relname::text from pg_class c
where c.relnamespace = to_regnamespace('pgflow') and c.relkind in ('r', 'p', 'v', 'S', 'c')
union all
select 'partition', c.relname from pg_class c
where c.relnamespace = to_regnamespace('pgflow') and c.relispartition
union all
select 'key', 'pgflow.' || r.relname
from pg_index i join pg_class c on c.oid = i.indexrelid join pg_class r on r.oid = i.indrelid
where c.relnamespace = to_regnamespace('pgflow') and i.indisvalid and i.indisprimary
union all
select 'index', c.relname from pg_index i join pg_class c on c.oid = i.indexrelid
where c.relnamespace = to_regnamespace('pgflow') and i.indisvalid
union all
select 'function', p.proname || ' ' || md5(p.prosrc) from pg_proc p
where p.pronamespace = to_regnamespace('pgflow')
union all
select 'trigger', t.tgname || ' on ' || c.relname
from pg_trigger t join pg_class c on c.oid = t.tgrelid
where c.relnamespace = to_regnamespace('pgflow') and t.tgenabled in ('O', 'A')
"""


@dataclass(frozen=True, slots=True)
class Thing:
    """Something that a file creates in the schema `pgflow`."""

    kind: str
    """`relation` (table, view, sequence, type, column), `partition`, `key`, `index`,
    `function`, `trigger`; see `shape.py` and `alterations.py` for the others."""
    name: str
    """Its name in the catalogue of the database."""
    table: str = ""
    """The table to which it belongs."""
    remedy: str = MIGRATE
    """How to get it back."""
    statement: str = ""
    """The statement by which a migration creates it again, if it is missing."""

    def __str__(self) -> str:
        """The error if it is missing, with what to do."""
        match self.kind:
            case "function":
                lost = f"the function pgflow.{self.name.split()[0]} is lost or was changed"
            case "trigger":
                lost = f"the trigger {self.name} is lost or disabled"
            case "key":
                lost = f"the primary key of {self.name} is lost"
            case "index":
                lost = f"the index {self.name} of pgflow.{self.table} is lost or invalid"
            case "partition":
                lost = f"pgflow.{self.name} is no longer a partition of pgflow.{self.table}"
            case "constraint":
                lost = f"the constraint {self.name} of pgflow.{self.table} is lost or was changed"
            case "type":
                lost = f"pgflow.{self.name} has another type"
            case "not null":
                lost = f"pgflow.{self.name} may be null"
            case "default":
                lost = f"pgflow.{self.name} has lost its default, or has another one"
            case "identity":
                lost = f"pgflow.{self.name} no longer numbers its rows"
            case kind if kind in ALTERED:
                lost = ALTERED[kind].format(self.name)
            case _:
                lost = f"pgflow.{self.name} is lost"
        return f"{lost}: {self.remedy}"


def relations(migrations: Iterable[str]) -> list[Thing]:
    """The tables, keys, indexes, views, sequences and types that migrations create."""
    made: list[Thing] = []
    for text in migrations:
        for change in CHANGE.finditer(text):
            made = _apply(change, made)
    return made


def _apply(change: re.Match[str], made: list[Thing]) -> list[Thing]:
    """The things that exist after a change."""
    if name := change["made"]:
        table = Thing("relation", name, name, BACKUP)
        return [*made, table, *_keys(name, change["body"] or ""), *_default(name, change["whole"])]
    if name := change["again"]:
        statement = re.sub("--[^\n]*", "", change[0])
        return [*made, Thing("relation", name, name, MIGRATE, statement)]
    if name := change["index"]:
        statement = " ".join(change[0].split())
        return [*made, Thing("index", name, change["indexed"], f"`{statement}`")]
    if old := change["old"]:
        return [_renamed(thing, old, change["new"]) for thing in made]
    return [thing for thing in made if thing.table != change["dropped"]]


def _keys(table: str, body: str) -> list[Thing]:
    """The primary key of a table."""
    found = KEY.search(body)
    add = f"`alter table pgflow.{table} add primary key ({found[1] or found[2]})`" if found else ""
    return [Thing("key", f"pgflow.{table}", table, add)] if found else []


def _default(name: str, whole: str | None) -> list[Thing]:
    """The fact that a table is the default partition of another one."""
    attach = f"`alter table pgflow.{whole} attach partition pgflow.{name} default`"
    return [Thing("partition", name, whole, attach)] if whole else []


def _renamed(thing: Thing, old: str, new: str) -> Thing:
    """The same thing, after its table or view was renamed."""
    if thing.table != old:
        return thing
    name = thing.name if thing.kind == "index" else thing.name.replace(old, new)
    statement = thing.statement.replace(f"pgflow.{old}", f"pgflow.{new}")
    return Thing(thing.kind, name, new, thing.remedy, statement)


def routines(texts: Iterable[str]) -> list[Thing]:
    """The functions and triggers that other files create."""
    made = []
    for text in texts:
        for name, _, body in FUNCTION.findall(text):
            digest = hashlib.md5(body.encode(), usedforsecurity=False).hexdigest()
            made.append(Thing("function", f"{name} {digest}"))
        made += [Thing("trigger", f"{name} on {on}", on) for name, on in TRIGGER.findall(text)]
    return made


async def missing(connection: Connection, things: Iterable[Thing]) -> list[Thing]:
    """The things that are missing in the database, or differ from the files."""
    cursor = await connection.execute(THERE)
    there = {(kind, name) for kind, name in await cursor.fetchall()}
    return [
        thing
        for thing in things
        if (thing.kind, thing.name) not in there
        # If a table is lost, its parts need not be listed.
        and (thing.kind == "relation" or not thing.table or ("relation", thing.table) in there)
    ]


async def make_again(connection: Connection, things: Iterable[Thing]) -> None:
    """Create lost views and sequences again: they hold nothing that must be restored."""
    for thing in await missing(connection, [thing for thing in things if thing.statement]):
        await connection.execute(thing.statement.encode())
        if thing.name == "seats":
            await connection.execute(COUNT_SEATS)
