"""Keeps libpq's environment variables away from the connections to an embedded server."""

from psycopg import pq
from psycopg.abc import ConnDict

# Values that mean "not given" for parameters that an empty text does not reset.
OWN = {
    "connect_timeout": "10",
    "options": " ",  # for an empty text, our connections would take PGOPTIONS
    "passfile": "/nonexistent",  # empty means ~/.pgpass
    "sslcertmode": "allow",
    "min_protocol_version": "3.0",
    "max_protocol_version": "3.0",
}


def own_parameters() -> ConnDict:
    """Every parameter that libpq would take from the environment or a file, at its default.

    Two are left out: the name of a service, which libpq looks up even if it is empty, and the
    name of the application, which does no harm.
    """
    known = {o.keyword.decode(): o.compiled or b"" for o in pq.Conninfo.get_defaults() if o.envvar}
    return {
        keyword: OWN.get(keyword, compiled.decode())
        for keyword, compiled in known.items()
        if keyword not in {"service", "servicefile", "application_name"}
    }
