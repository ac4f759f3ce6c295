"""Whom each function of the SQL core is for: what its comment says, and who calls it."""

import re

from pgflow_events.schema.sql_files import sql_files

from ..places import ROOT

CODE = re.compile(r"--.*|comment on function [^;]+;")
CALL = re.compile(r"\bpgflow\.(\w+)\b")
KIND = re.compile(
    r"-- (Public|Public, as in pgflow|Worker|Client|Owner|Internal, of ([\w\s(),-]+?))\. ?"
)
FUNCTIONS = {file.path[10:-4]: file.text for file in sql_files("functions")}
CALLERS = {name: CODE.sub("", text) for name, text in FUNCTIONS.items()} | {
    f"the trigger {file.path[9:-4]}": CODE.sub("", file.text) for file in sql_files("triggers")
}
CALLS = {caller: set(CALL.findall(text)) for caller, text in CALLERS.items()}
CALLED_BY_PYTHON = {
    name
    for package in ("pgflow_events", "blobstore")
    for path in (ROOT / package).rglob("*.py")
    for name in CALL.findall(path.read_text("utf-8"))
}


def kind(name: str) -> str:
    """What the comment of a function begins with."""
    head = " ".join(re.match(r"(--.*\n)*", FUNCTIONS[name])[0].split("\n-- "))
    return KIND.match(head)[1]


def called_by(name: str) -> list[str]:
    """The functions and triggers that call this one."""
    found = [caller for caller, called in CALLS.items() if caller != name and name in called]
    return sorted(f"{caller}()" for caller in found if caller in FUNCTIONS) + sorted(
        caller for caller in found if caller not in FUNCTIONS
    )
