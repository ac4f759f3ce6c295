"""What each of our sessions is set to, whoever wishes otherwise.

The server, the database, the role, PGOPTIONS, libpq's environment and the DSN may all set what
each statement of a session means. What is listed here is set once more after the connecting, in
the round trip that looks for a pooler. All other settings are left to whoever sets them: they
change how fast something is, or where, or what is logged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto


class Pooled(Enum):
    """What becomes of a setting where a pooler lends sessions that we may not set."""

    LEFT = auto()
    """It may stay as it is."""
    TRACKED = auto()
    """Poolers keep it for each client, as the server reports its changes."""
    NEEDED = auto()
    """The pooler's sessions must have it already, or the connection is refused."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """A setting and its only value."""

    name: str
    value: str
    why: str
    """What another value would do."""
    pooled: Pooled = Pooled.LEFT
    privileged: bool = False
    """Whether only a superuser may set it. For others it is left as it is."""


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
    # With any other schema in it, what is there could fit better than PostgreSQL's own.
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
    # How long something may take is for the caller to say: `call_timeout` ends what hangs.
    Fixed("statement_timeout", "0", "a large commit or a migration could never end"),
    Fixed("lock_timeout", "0", "who waits for a lock could never get it"),
    Fixed("transaction_timeout", "0", "a large commit or a migration could never end"),
    Fixed("idle_session_timeout", "0", "whoever waits for notifications would be cut off"),
)

# These could end the session before it is set, or be over in the midst of it.
AT_START = "-c statement_timeout=0 -c lock_timeout=0 -c idle_session_timeout=0"
AT_NEW_START = "-c transaction_timeout=0"  # a server before 17 would not let us in

# No operator and no function is looked for along the search path, which is not ours yet. A
# session whose process has another number than we were told is lent: what is set in it stays
# behind. The values are those that hold then; null where the server does not know the setting. In
# between: whether the role may do all that the owner of the database may.
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
    """The parameters of `SETTLE`, for a session whose process is said to be this one."""
    return [
        pid,
        [fixed.name for fixed in FIXED],
        [fixed.value for fixed in FIXED],
        [fixed.privileged for fixed in FIXED],
    ]


def strangers(values: Sequence[str | None]) -> dict[Fixed, str]:
    """The settings that have another value than ours, with that value."""
    return {
        fixed: value
        for fixed, value in zip(FIXED, values, strict=True)
        if value is not None and value != fixed.value
    }


def track(strange: Mapping[Fixed, str]) -> str:
    """Statements that set what a pooler keeps for its client; empty if nothing has to be set."""
    tracked = [fixed for fixed in strange if fixed.pooled is Pooled.TRACKED]
    return "; ".join(f"set {fixed.name} = '{fixed.value}'" for fixed in tracked)


def refusal(strange: Mapping[Fixed, str]) -> str:
    """Say why sessions that a pooler lends cannot be used; empty if they can."""
    needed = [fixed for fixed in strange if fixed.pooled is Pooled.NEEDED]
    return "; ".join(
        f"sessions behind this pooler have {fixed.name} = {strange[fixed]}, and {fixed.why}:"
        f" run `alter role ... set {fixed.name} = '{fixed.value}'`,"
        " and have the pooler reconnect"
        for fixed in needed
    )
