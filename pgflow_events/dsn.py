"""What can be said of a DSN without a connection."""

import psycopg
from psycopg import pq
from psycopg.abc import ConnDict
from psycopg.conninfo import conninfo_to_dict

GARBLED = (
    "the DSN cannot be understood: it is postgresql://user:password@host:port/database"
    " (with %2F for / and %40 for @ in the password) or host=... user=... dbname=..."
)


def is_garbled(conninfo: str) -> bool:
    """Whether a DSN cannot be understood. What libpq says of such a one quotes from it."""
    try:
        params = conninfo_to_dict(conninfo)
    except psycopg.ProgrammingError:
        return True
    # With "/" or "@" in a password, a part of it passes for the port or the host.
    port, host = str(params.get("port", "")), str(params.get("host", ""))
    return bool(set(port) - set("0123456789,")) or "@" in host[1:]


def libpq_environment() -> ConnDict:
    """Read the connection parameters given by PGHOST and the like, or by PGSERVICE."""
    return {o.keyword.decode(): o.val.decode() for o in pq.Conninfo.get_defaults() if o.val}
