"""Columns and constraints: how each is in a database that has all of them, and what one lacks.

`sql/SHAPE` is what the query answers right after a migration. The text of the migrations would not
do: later ones change what earlier ones made.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from psycopg.rows import class_row
from psycopg.sql import SQL, Identifier

from pgflow_events.postgres.connection import Connection
from pgflow_events.schema.catalog import BACKUP, Thing
from pgflow_events.schema.sql_files import sql_folder

# What PostgreSQL 18 calls a constraint and older ones do not (not null) is a column's.
# Where names are looked for decides how they are written: not in our schema, and as in a migration.
SHAPE = """
with path as materialized (select set_config('search_path', 'pg_catalog, pg_temp', true))
select
  case c.relkind when 'c' then 'attribute' else 'column' end as kind, c.relname as relation,
  a.attname as name, format_type(a.atttypid, a.atttypmod) as definition,
  a.attnotnull as is_needed, coalesce(pg_get_expr(d.adbin, d.adrelid), '') as default,
  a.attidentity <> '' as counts
from path cross join pg_class c
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
where
  c.relnamespace = to_regnamespace('pgflow') and c.relkind in ('r', 'p', 'c')
  and not c.relispartition
union all
select 'constraint', r.relname, k.conname, pg_get_constraintdef(k.oid), false, '', false
from path cross join pg_constraint k join pg_class r on r.oid = k.conrelid
where
  r.relnamespace = to_regnamespace('pgflow') and not r.relispartition
  and k.contype in ('c', 'f', 'u')
order by relation, kind, name
"""

COUNT_ON = "select setval(pg_get_serial_sequence('pgflow.{0}', '{1}'), max({1})) from pgflow.{0}"


@dataclass(frozen=True, slots=True)
class Part:
    """A column, an attribute of a type, or a constraint."""

    kind: str
    relation: str
    name: str
    definition: str
    """The type of a column, or what a constraint says."""
    is_needed: bool
    """Whether it may not be null."""
    default: str
    counts: bool
    """Whether it numbers the rows."""

    def __str__(self) -> str:
        """Its line in the file."""
        flags = [str(int(flag)) for flag in (self.is_needed, self.counts)]
        return "\t".join(
            [self.kind, self.relation, self.name, *flags, self.definition, self.default]
        )

    @property
    def key(self) -> tuple[str, str, str]:
        """What there is one of."""
        return self.kind, self.relation, self.name


def _part(line: str) -> Part:
    """What a line of the file says."""
    kind, relation, name, is_needed, counts, definition, default = line.split("\t")
    return Part(kind, relation, name, definition, is_needed == "1", default, counts == "1")


def whole_shape() -> list[Part]:
    """The columns and constraints of this release."""
    return [_part(line) for line in (sql_folder() / "SHAPE").read_text("utf-8").splitlines()]


async def find_shape(connection: Connection) -> list[Part]:
    """Those that the database has."""
    cursor = connection.cursor(row_factory=class_row(Part))
    await cursor.execute(SHAPE)
    return await cursor.fetchall()


async def find_changed(connection: Connection) -> list[Thing]:
    """Columns and constraints that are lost, or are not as they were made."""
    found = {part.key: part for part in await find_shape(connection)}
    tables = {relation for _, relation, _ in found}
    return [
        thing
        for expected in whole_shape()
        if expected.relation in tables  # else the loss of the table is enough to say
        for thing in _differences(expected, found.get(expected.key))
    ]


async def find_lost_columns(connection: Connection) -> list[Thing]:
    """Columns and attributes that are lost."""
    return [thing for thing in await find_changed(connection) if thing.remedy == BACKUP]


def _differences(expected: Part, found: Part | None) -> Iterable[Thing]:
    """How a part differs from what it has to be."""
    if expected.kind == "constraint":
        return [] if expected == found else [_constraint(expected)]
    if not found:
        return [Thing("relation", f"{expected.relation}.{expected.name}", remedy=BACKUP)]
    return _column(expected, found)


def _constraint(expected: Part) -> Thing:
    """A constraint that is not what it has to be, and the statement that makes it."""
    statement = SQL("alter table pgflow.{0} drop constraint if exists {1}, add constraint {1} ")
    names = map(Identifier, (expected.relation, expected.name))
    said = f"{statement.format(*names).as_string()}{expected.definition}"
    return Thing("constraint", expected.name, expected.relation, f"`{said}`")


def _column(expected: Part, found: Part) -> Iterator[Thing]:
    """How a column that is there differs, and the statements that change it."""
    name = f"{expected.relation}.{expected.name}"
    alter = f"alter table pgflow.{expected.relation} alter column {expected.name}"
    if expected.kind == "attribute":
        alter = f"alter type pgflow.{expected.relation} alter attribute {expected.name}"
    if found.definition != expected.definition:
        yield Thing("type", name, remedy=f"`{alter} type {expected.definition}`")
    if expected.is_needed and not found.is_needed:
        yield Thing("not null", name, remedy=f"`{alter} set not null`")
    if expected.default not in {"", found.default}:
        yield Thing("default", name, remedy=f"`{alter} set default {expected.default}`")
    if expected.counts and not found.counts:
        count_on = COUNT_ON.format(expected.relation, expected.name)
        yield Thing(
            "identity", name, remedy=f"`{alter} add generated always as identity; {count_on}`"
        )
