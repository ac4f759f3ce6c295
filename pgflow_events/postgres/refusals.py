"""Recognises failures to connect that do not pass, however often a caller tries.

For these, libpq gives no SQLSTATE, only a text. Texts of libpq and of poolers are English; those
of a server are in the language of its `lc_messages`. A server's text that is unknown here counts as
final once the server has said nothing else for a while.
"""

import re

UNKNOWN_LIMIT = 120.0  # seconds until an unknown text counts as final

FINAL = (
    # PostgreSQL
    r"authentication failed",
    r"no password supplied",
    r"pg_hba\.conf",  # in any language
    r"not permitted to log in",
    r'(?:role|database) ".*" does not exist',
    r"permission denied for database",
    r"requires a valid client certificate",
    r"invalid value for parameter",  # by PGDATESTYLE or PGOPTIONS
    r'parameter ".*" requires',
    r"unrecognized configuration parameter",
    r"in a replication connection",  # we need an ordinary one
    r"permission denied to set parameter",
    # libpq, if its settings ask for something that this server does not have
    r"does not support (?:SSL|GSSAPI)|doesn't support GSSAPI",
    r"certificate verify failed",
    r"does not match host name",
    r"channel binding (?:is )?required",
    r"authentication method requirement",
    r"GSSAPI encryption required",
    r'invalid "?\w+"? value|invalid value ".*" for|invalid SSL protocol version range',
    r"invalid (?:port number|integer value)",
    r"requires OAuth authentication",
    r"(?:certificate|private key) file",
    r"definition of service|service file",
    r"could not match \d+",  # hosts with their addresses or ports
    r"socket path .* is too long",
    r"requirepeer",
    r"weak sslmode",
    r"did not request an SSL certificate",
    r"require_auth method",
    r"support is not compiled in",
    r"authentication (?:method \d+ )?not supported",
    r"invalid SCRAM (?:client|server) key",
    r"local user",  # which libpq looks up for the default name and for requirepeer
    # PgBouncer
    r"no such (?:database|user)",
    r"bouncer config error",
    r"login rejected",
    r"not allowed",
    r"no authentication method is found",
    r"SSL required",
    r"no username supplied",
    r"(?:username|password) too long",
    r"empty password returned",
    r"unsupported (?:options )?startup parameter",
    r"invalid server parameter",
    # other poolers
    r"No pool configured",  # pgcat
    r"Tenant or user not found",  # Supavisor
    r"route for '.*' is not found",  # Odyssey
    r"RDS proxy has no credentials",
    # ours, see session.py
    r"sessions behind this pooler have",
)
REFUSAL = re.compile("|".join(FINAL))

# Texts of servers that pass in time.
PASSING = re.compile(
    r"the database system is|too many|connection slots|not currently accepting connections"
    r"|no more connections|connections exceeded|shutting down|timeout"
)
# How libpq quotes a server: its severity, in its language, and two spaces.
QUOTED = re.compile(r": \S+:  ")


def has_lasted(words: str, silence: float) -> bool:
    """Whether a server has refused us with an unknown text for so long that it will not stop.

    Args:
        words: Why the last try to connect failed.
        silence: For how many seconds no try has succeeded.
    """
    is_unknown = QUOTED.search(words) and not PASSING.search(words)
    return bool(is_unknown) and silence > UNKNOWN_LIMIT
