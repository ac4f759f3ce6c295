"""Which failures to connect will not pass, however often one tries.

libpq tells no SQLSTATE of these, only words. Its own are English, and so are a pooler's; those of
a server are in the language that its `lc_messages` says. What a server says in words that are
unknown here is final once it has said nothing else for a while.
"""

import re

UNKNOWN_LIMIT = 120.0  # seconds for words that are unknown here

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
    r"in a replication connection",  # which nobody wants of us
    r"permission denied to set parameter",
    # libpq, whose settings ask for what this server has not
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
    r"local user",  # who is to be found for a name or a peer
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

# Where a server says them, they pass in time.
PASSING = re.compile(
    r"the database system is|too many|connection slots|not currently accepting connections"
    r"|no more connections|connections exceeded|shutting down|timeout"
)
# How libpq quotes a server: its severity, in its language, and two spaces.
QUOTED = re.compile(r": \S+:  ")


def has_lasted(words: str, silence: float) -> bool:
    """Whether a server has refused us in unknown words for so long that it will not stop.

    Args:
        words: Why a connection could not be had.
        silence: For how many seconds none could be had.
    """
    is_unknown = QUOTED.search(words) and not PASSING.search(words)
    return bool(is_unknown) and silence > UNKNOWN_LIMIT
