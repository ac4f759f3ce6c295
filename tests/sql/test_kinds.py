"""Whom each function is for: what its comment says, beside its callers; sql/README.md as well."""

import pytest

from pgflow_events.schema.sql_files import sql_folder

from ..parts.reference.kinds import CALLED_BY_PYTHON, FUNCTIONS, called_by, kind

README = (sql_folder() / "README.md").read_text("utf-8")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_comment_begins_with_whom_the_function_is_for(name):
    assert kind(name)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if kind(name).startswith("Internal")])
def test_an_internal_function_names_its_callers_and_python_is_none_of_them(name):
    assert kind(name) == f"Internal, of {', '.join(called_by(name))}"
    assert name not in CALLED_BY_PYTHON


def test_a_function_that_python_calls_says_who():
    called = CALLED_BY_PYTHON & FUNCTIONS.keys()
    assert not [name for name in called if kind(name).startswith("Internal")]


def test_what_is_public_is_described_in_the_database(core):
    described = core.rows(
        "select proname from pg_proc where pronamespace = 'pgflow'::regnamespace"
        " and obj_description(oid, 'pg_proc') is not null"
    )
    public = {name for name in FUNCTIONS if kind(name).startswith("Public")}
    assert {row.proname for row in described} >= public


def trees() -> list[list[tuple[int, str]]]:
    """The call trees of the page: depth and name, line by line."""
    blocks = [block for block in README.split("```")[1::2] if "─" not in block]
    return [
        [
            ((len(line) - len(line.lstrip())) // 2, line.split()[0])
            for line in block.split("\n")[1:-1]
        ]
        for block in blocks
    ]


@pytest.mark.parametrize("tree", trees(), ids=lambda tree: tree[0][1])
def test_the_call_trees_of_the_page_are_those_of_the_functions(tree):
    path: list[str] = []
    for depth, name in tree:
        path[depth:] = [name]
        if depth:
            assert f"{path[depth - 1]}()" in called_by(name)


def test_the_page_shows_every_call_of_a_claim_and_of_settling():
    for caller in ("take_tasks", "settle_tasks", "complete_tasks"):
        called = {name for name in FUNCTIONS if f"{caller}()" in called_by(name)}
        shown = {
            name
            for tree in trees()
            for n, (depth, name) in enumerate(tree)
            if any(tree[m] == (depth - 1, caller) for m in range(n))
        }
        assert called == shown
