"""What can be said of a DSN without a connection."""

import psycopg
from psycopg import pq
from psycopg.abc import ConnDict, ConnMapping
from psycopg.conninfo import conninfo_to_dict

GARBLED = (
    "the DSN cannot be understood: give a str, postgresql://user:password@host:port/database"
    " (with %2F for / and %40 for @ in the password) or host=... user=... dbname=..."
)


def is_garbled(dsn: object) -> bool:
    """Whether a DSN cannot be understood. What libpq says of such a one quotes from it."""
    # What of the environment is not set is None. libpq would read no further than to U+0000.
    if not isinstance(dsn, str) or "\0" in dsn:
        return True
    try:
        params = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        return True
    # With "/" or "@" in a password, a part of it passes for the port or the host.
    port, hosts = str(params.get("port", "")), str(params.get("host", "")).split(",")
    return bool(set(port) - set("0123456789,")) or any(map(_has_password, hosts))


def _has_password(host: str) -> bool:
    """Whether a part of a password passes for the host; a folder may well have an @ in its name."""
    return "@" in host[1:] and not host.startswith("/")


def libpq_environment() -> ConnDict:
    """Read the connection parameters given by PGHOST and the like, or by PGSERVICE."""
    return {o.keyword.decode(): o.val.decode() for o in pq.Conninfo.get_defaults() if o.val}


def place(params: ConnMapping) -> str:
    """Say where a server is looked for, in libpq's words."""
    given = {**libpq_environment(), **params}
    host, address, port = (str(given.get(name, "")) for name in ("host", "hostaddr", "port"))
    if not address and (not host or host.startswith(("/", "@"))):
        return f'connection to server on socket in "{host or "the default folder"}", port {port}'
    also = f" ({address})" if host and address not in ("", host) else ""
    return f'connection to server at "{host or address}"{also}, port {port}'


def unresolved(hosts: object, attempts: list[ConnDict]) -> list[str]:
    """Name those of `hosts`, separated by commas, that none of the attempts to connect is for."""
    tried = {str(attempt.get("host")) for attempt in attempts}
    return [host for host in str(hosts).split(",") if "," in str(hosts) and host not in tried]
