"""The table of rights in docs/operate/security.md is what the catalogue says."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ...parts.attacks.granted import ALL_FUNCTIONS, FUNCTIONS, OTHERS, ROLES, TABLES
from ...parts.reference.kinds import FUNCTIONS as FILES
from ...parts.reference.kinds import kind
from ...parts.servers.logins import VERSIONS, execute, guarded_database, server_with_logins

PAGE = (Path(__file__).parents[3] / "docs" / "operate" / "security.md").read_text("utf-8")
SECTION = PAGE.partition("## Every right")[2].partition("\n## ")[0]
ROW = re.compile(r"^\| `(\w+)` \| (.*?) \| (.*?) \| (.*?) \| (.+) \|$", re.MULTILINE)
OTHER = re.compile(r"^\| ((?:\w+ )*`[\w.]+`) \| ([^|]*) \| ([^|]*) \| ([^|]*) \|$", re.MULTILINE)
LIST = re.compile(r"^- (?:A|An) (\w+) may (not )?execute: (.*?)\.$", re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module", params=VERSIONS)
def owned(request: pytest.FixtureRequest) -> Iterator[str]:
    with server_with_logins(request.param) as server, guarded_database(server) as dsn:
        execute(dsn, "select pgflow.create_flow('f')")
        yield dsn


def cells(rows: list[Any]) -> dict[str, tuple[str, ...]]:
    """The cells of each table, in order of the roles."""
    said: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        rights = said.setdefault(row.object, {role: [] for role in ROLES})
        rights[row.role].append(row.privilege + row.columns)
    return {name: tuple("; ".join(rights[role]) for role in ROLES) for name, rights in said.items()}


def test_the_rights_to_tables_are_those_of_the_docs(owned):
    documented = {
        name: (worker, client, observer)
        for name, worker, client, observer, _ in ROW.findall(SECTION)
    }
    assert documented == cells(execute(owned, TABLES, list(ROLES)))


def test_the_rights_to_schemas_sequences_and_queues_are_those_of_the_docs(owned):
    documented = {name: tuple(rights) for name, *rights in OTHER.findall(SECTION)}
    assert documented == cells(execute(owned, OTHERS, list(ROLES)))


def test_the_functions_that_a_role_may_execute_are_those_of_the_docs(owned):
    there = {row.name for row in execute(owned, ALL_FUNCTIONS)}
    granted = {role: set() for role in ROLES}
    for row in execute(owned, FUNCTIONS, list(ROLES)):
        granted[row.role].add(row.name)
    documented = {}
    for role, negated, names in LIST.findall(SECTION):
        listed = set(re.findall(r"`(\w+)`", names))
        documented[f"pgflow_{role}"] = there - listed if negated else listed
    assert documented == granted


@pytest.mark.parametrize("role", ["worker", "client"])
def test_a_role_may_execute_what_is_for_it(owned, role):
    rows = execute(owned, FUNCTIONS, [f"pgflow_{role}"])
    mine = {name for name in FILES if kind(name) == role.capitalize()}
    assert mine <= {row.name for row in rows}
