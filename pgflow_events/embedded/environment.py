"""What the connections of an embedded server do not take from libpq's environment."""

from psycopg import pq
from psycopg.abc import ConnDict

# What stands for "not given" where the empty text does not.
OWN = {
    "connect_timeout": "10",
    "options": " ",  # our connections would take PGOPTIONS in the place of an empty one
    "passfile": "/nonexistent",  # empty means ~/.pgpass
    "sslcertmode": "allow",
    "min_protocol_version": "3.0",
    "max_protocol_version": "3.0",
}


def own_parameters() -> ConnDict:
    """All parameters that libpq would take from the environment or a file, as it has them without.

    Left out are the name of a service, which libpq looks up even if it is empty, and the name of
    the application, which does no harm.
    """
    known = {o.keyword.decode(): o.compiled or b"" for o in pq.Conninfo.get_defaults() if o.envvar}
    return {
        keyword: OWN.get(keyword, compiled.decode())
        for keyword, compiled in known.items()
        if keyword not in {"service", "servicefile", "application_name"}
    }
