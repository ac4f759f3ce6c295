"""The settings that each of our sessions has, whatever is configured elsewhere.

The server, the database, the role, PGOPTIONS, libpq's environment and the DSN may all change what
the statements of a session mean. So the settings listed here are set again after connecting, in
the round trip that looks for a pooler. All other settings stay as configured: they change how fast
something is, where it is stored or what is logged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto


class Pooled(Enum):
    """How to treat a setting behind a pooler, whose sessions we may not set."""

    LEFT = auto()
    """The setting may stay as it is."""
    TRACKED = auto()
    """Poolers keep the setting for each client, because the server reports its changes."""
    NEEDED = auto()
    """The pooler's sessions must have our value already, or the connection is refused."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """A setting and the value that our sessions need."""

    name: str
    value: str
    why: str
    """The effect of another value."""
    pooled: Pooled = Pooled.LEFT
    privileged: bool = False
    """Whether only a superuser may set it. In the sessions of other roles it stays as it is."""


FIXED = (
    Fixed("DateStyle", "ISO, MDY", "psycopg reads no other style", Pooled.TRACKED),
    Fixed("IntervalStyle", "postgres", "psycopg reads no other style"),
    Fixed("TimeZone", "UTC", "a time without a zone would be another moment"),
    Fixed("extra_float_digits", "1", "a number would lose digits on its way"),
    Fixed("bytea_output", "hex", "bytes would take up to twice the room on their way"),
    Fixed(
        "standard_conforming_strings",
        "on",
        "a backslash in a literal would mean another character",
        Pooled.TRACKED,
    ),
    Fixed("array_nulls", "on", "NULL in an array would be a text", Pooled.NEEDED),
    Fixed("transform_null_equals", "off", "`= null` would be `is null`"),
    Fixed("quote_all_identifiers", "off", "the name of a table would be another text"),
    # In any other schema, a function could fit a call better than PostgreSQL's own.
    Fixed("search_path", "pg_catalog, pg_temp", "something else could pass for PostgreSQL's own"),
    Fixed("restrict_nonsystem_relation_kind", "", "views could not be read", Pooled.NEEDED),
    Fixed(
        "default_transaction_isolation",
        "read committed",
        "a statement would not see what was committed while it waited for a lock",
        Pooled.NEEDED,
    ),
    Fixed("default_transaction_deferrable", "off", "a snapshot could wait for others"),
    Fixed("session_replication_role", "origin", "triggers would not fire", privileged=True),
    Fixed("exit_on_error", "off", "an error that we expect would end the session", Pooled.NEEDED),
    Fixed("plpgsql.extra_errors", "none", "functions could fail that do nothing wrong"),
    # The caller limits the time of calls: `call_timeout` ends those that hang.
    Fixed("statement_timeout", "0", "a large commit or a migration could never end"),
    Fixed("lock_timeout", "0", "who waits for a lock could never get it"),
    Fixed("transaction_timeout", "0", "a large commit or a migration could never end"),
    Fixed("idle_session_timeout", "0", "whoever waits for notifications would be cut off"),
)

# These timeouts could end the session before or while it is set up.
AT_START = "-c statement_timeout=0 -c lock_timeout=0 -c idle_session_timeout=0"
AT_NEW_START = "-c transaction_timeout=0"  # a server before 17 would not let us in

# Operators and functions are qualified, because the search path is not ours yet. If the process
# number differs from the one that we were told, a pooler lends the session, and settings would stay
# behind in it: nothing is set then. Returned are the number, whether the role may do all that the
# owner of the database may, and the values afterwards (null for a setting unknown to the server).
SETTLE = """
with told (pid) as (values (pg_catalog.pg_backend_pid()))
select told.pid, (
  select pg_catalog.pg_has_role(d.datdba, 'usage') from pg_catalog.pg_database d
  where d.datname operator(pg_catalog.=) pg_catalog.current_database()
), array(
  select case
    when pg_catalog.current_setting(f.name, true) is null then null
    when told.pid operator(pg_catalog.=) %s
      and (not f.privileged or pg_catalog.current_setting('is_superuser')::pg_catalog.bool)
    then pg_catalog.set_config(f.name, f.value, false)
    else pg_catalog.current_setting(f.name, true)
  end
  from unnest(%s::pg_catalog.text[], %s::pg_catalog.text[], %s::pg_catalog.bool[])
  with ordinality as f (name, value, privileged, position)
  order by f.position
)
from told
"""


def settle_parameters(pid: int) -> list[object]:
    """The parameters of `SETTLE`, for a session that has reported this process number."""
    return [
        pid,
        [fixed.name for fixed in FIXED],
        [fixed.value for fixed in FIXED],
        [fixed.privileged for fixed in FIXED],
    ]


def strangers(values: Sequence[str | None]) -> dict[Fixed, str]:
    """The settings whose values differ from ours, with these values."""
    return {
        fixed: value
        for fixed, value in zip(FIXED, values, strict=True)
        if value is not None and value != fixed.value
    }


def track(strange: Mapping[Fixed, str]) -> str:
    """Statements for the settings that a pooler keeps for its client; may be empty."""
    tracked = [fixed for fixed in strange if fixed.pooled is Pooled.TRACKED]
    return "; ".join(f"set {fixed.name} = '{fixed.value}'" for fixed in tracked)


def unusable(strange: Mapping[Fixed, str]) -> str:
    """The error about a pooler whose sessions cannot be used; empty if they can."""
    needed = [fixed for fixed in strange if fixed.pooled is Pooled.NEEDED]
    return "; ".join(
        f"sessions behind this pooler have {fixed.name} = {strange[fixed]}, and {fixed.why}:"
        f" run `alter role ... set {fixed.name} = '{fixed.value}'`,"
        " and have the pooler reconnect"
        for fixed in needed
    )
