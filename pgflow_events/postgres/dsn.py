"""Checks and describes a DSN without connecting."""

import psycopg
from psycopg import pq
from psycopg.abc import ConnDict, ConnMapping
from psycopg.conninfo import conninfo_to_dict

GARBLED = (
    "the DSN cannot be understood: give a str, postgresql://user:password@host:port/database"
    " (with %2F for / and %40 for @ in the password) or host=... user=... dbname=..."
)


def is_garbled(dsn: object) -> bool:
    """Whether a DSN cannot be understood. The messages of libpq would quote from it."""
    # An environment variable that is not set is None. libpq would stop reading at U+0000.
    if not isinstance(dsn, str) or "\0" in dsn:
        return True
    try:
        params = conninfo_to_dict(dsn)
    except psycopg.ProgrammingError:
        return True
    # If a password holds "/" or "@", libpq takes a part of it for the port or the host.
    port, hosts = str(params.get("port", "")), str(params.get("host", "")).split(",")
    return bool(set(port) - set("0123456789,")) or any(map(_has_password, hosts))


def _has_password(host: str) -> bool:
    """Whether a host holds a part of a password; only a folder may have an @ in its name."""
    return "@" in host[1:] and not host.startswith("/")


def libpq_environment() -> ConnDict:
    """Read the connection parameters given by PGHOST and the like, or by PGSERVICE."""
    return {o.keyword.decode(): o.val.decode() for o in pq.Conninfo.get_defaults() if o.val}


def place(params: ConnMapping) -> str:
    """Describe the address of a server, in the words of libpq."""
    given = {**libpq_environment(), **params}
    host, address, port = (str(given.get(name, "")) for name in ("host", "hostaddr", "port"))
    if not address and (not host or host.startswith(("/", "@"))):
        return f'connection to server on socket in "{host or "the default folder"}", port {port}'
    also = f" ({address})" if host and address not in ("", host) else ""
    return f'connection to server at "{host or address}"{also}, port {port}'


def unresolved(hosts: object, attempts: list[ConnDict]) -> list[str]:
    """The names in `hosts`, separated by commas, for which there is no attempt to connect."""
    tried = {str(attempt.get("host")) for attempt in attempts}
    return [host for host in str(hosts).split(",") if "," in str(hosts) and host not in tried]
