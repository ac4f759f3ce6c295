"""What errors say of a call: every SQLSTATE that psycopg knows, and what has none."""

import ast
import re
from pathlib import Path

import psycopg
import pytest
import trio
from psycopg import errors

from pgflow_events.postgres import passing
from pgflow_events.postgres.passing import (
    AGAIN,
    DOUBTFUL,
    ELSEWHERE,
    LATER,
    NEVER,
    SQLSTATES,
    Verdict,
)

# Every class of PostgreSQL's appendix A that psycopg knows, with what is decided of it.
KNOWN = sorted(code for code in errors._sqlcodes if re.fullmatch("[0-9A-Z]{5}", code))


def test_psycopg_knows_some_250_codes():
    assert len(KNOWN) > 240
    assert {"40001", "54000", "57P05", "XX002"} < set(KNOWN)


@pytest.mark.parametrize("code", KNOWN)
def test_each_code_is_decided_by_a_line_of_the_table(code):
    verdict, why = SQLSTATES.get(code) or SQLSTATES[code[:2]]
    assert why
    assert passing.verdict_of(errors.lookup(code)("whatever")) is verdict


def test_no_line_of_the_table_is_idle():
    classes = {code[:2] for code in KNOWN}
    for code, (verdict, why) in SQLSTATES.items():
        assert code in classes or code in KNOWN, code
        assert isinstance(verdict, Verdict)
        assert len(why) > 15
        if len(code) == 5:
            assert verdict is not SQLSTATES[code[:2]][0], f"{code} says what its class says"


# What each is for, beside the table: a change of it has to be meant.
@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        ("08006", ELSEWHERE),  # connection_failure
        (
            "08P01",
            ELSEWHERE,
        ),  # protocol_violation: PgBouncer's word for most
        ("0A000", DOUBTFUL),  # "cached plan must not change result type"
        ("22P05", NEVER),  # untranslatable_character
        ("23505", NEVER),
        ("25006", ELSEWHERE),  # read_only_sql_transaction
        ("25P02", DOUBTFUL),  # in_failed_sql_transaction
        ("25P03", ELSEWHERE),  # idle_in_transaction_session_timeout
        ("25P04", ELSEWHERE),  # transaction_timeout
        ("26000", DOUBTFUL),  # invalid_sql_statement_name
        ("28P01", ELSEWHERE),  # invalid_password
        ("3D000", ELSEWHERE),  # invalid_catalog_name
        ("40001", AGAIN),
        ("40P01", AGAIN),
        ("42501", LATER),  # insufficient_privilege
        ("42P01", LATER),  # undefined_table: a lost queue
        ("42883", LATER),
        ("53100", AGAIN),  # disk_full
        ("53200", AGAIN),  # out_of_memory
        ("53300", AGAIN),  # too_many_connections
        ("53400", LATER),  # configuration_limit_exceeded: temp_file_limit
        ("54000", NEVER),  # program_limit_exceeded
        ("54001", NEVER),  # statement_too_complex
        ("54023", NEVER),
        ("55P03", AGAIN),  # lock_not_available
        ("57014", AGAIN),  # query_canceled
        ("57P01", ELSEWHERE),
        ("57P03", ELSEWHERE),
        ("58030", LATER),  # io_error
        ("P0001", NEVER),  # raise_exception
        ("XX000", LATER),
        ("XX001", LATER),
    ],
)
def test_what_is_decided_of_the_codes_that_come(code, verdict):
    assert passing.verdict_of_state(code) is verdict


def test_a_code_that_nobody_knows_costs_an_attempt_and_no_run():
    assert passing.verdict_of_state("MY001") is LATER


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (psycopg.OperationalError("the connection is lost"), ELSEWHERE),
        (psycopg.OperationalError("sending query failed: out of memory"), ELSEWHERE),
        (psycopg.InterfaceError("the connection is closed"), ELSEWHERE),
        (errors.ConnectionTimeout("connection timeout expired"), ELSEWHERE),
        (errors.PipelineAborted("pipeline aborted"), ELSEWHERE),
        (psycopg.InternalError("got 2 results"), DOUBTFUL),
        (psycopg.DataError("PostgreSQL text fields cannot contain NUL"), NEVER),
        (psycopg.ProgrammingError("cannot adapt type"), NEVER),
        (psycopg.NotSupportedError("libpq is too old"), NEVER),
        (psycopg.DatabaseError("whatever"), LATER),
        (psycopg.Error("whatever"), LATER),
        (trio.TooSlowError(), AGAIN),
        (OSError(24, "Too many open files"), AGAIN),
        (MemoryError(), LATER),
        (RuntimeError("a bug"), LATER),
        (ExceptionGroup("some", [ValueError()]), LATER),
    ],
    ids=repr,
)
def test_what_has_no_code_is_decided_too(error, verdict):
    assert passing.verdict_of(error) is verdict
    assert passing.passes(error) is (verdict in {AGAIN, ELSEWHERE, DOUBTFUL})


def test_a_task_is_blamed_for_its_data_and_not_for_a_missing_right():
    assert all(map(passing.blames_data, ["54000", "XX001", "58030", "22P05"]))
    assert not any(map(passing.blames_data, ["42501", "42P01", "53200", "40001", "MY001"]))


def test_only_what_the_server_says_in_a_living_session_is_an_answer():
    assert passing.is_answer(errors.DiskFull())
    assert not passing.is_answer(psycopg.OperationalError())
    assert not passing.is_answer(trio.TooSlowError())
    assert passing.is_silence(psycopg.OperationalError())
    assert not passing.is_silence(trio.TooSlowError())
    assert not passing.is_silence(errors.SerializationFailure())


def test_what_is_told_is_one_line_and_never_empty():
    assert passing.reason(psycopg.OperationalError("two\n  lines")) == "two; lines"
    assert passing.reason(MemoryError()) == "there is no memory"
    assert passing.reason(ValueError()) == "ValueError"


SOURCES = Path(passing.__file__).parents[1]
BROAD = {
    "DatabaseError",
    "DataError",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "ProgrammingError",
}
# Where the classes are meant: of psycopg's own errors, and of those of a connection that is made.
MEANT = {
    "cli/doctor/checks.py",
    "embedded/server.py",
    "postgres/connecting.py",
    "postgres/connection.py",
    "postgres/dsn.py",
}


def broad_classes(source: str) -> set[str]:
    """The classes of psycopg by which a source tells errors apart."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.ExceptHandler(type=ast.AST() as classes):
                asked = [classes]
            case ast.Call(func=ast.Name(id="isinstance" | "suppress"), args=args):
                asked = args
            case _:
                continue
        for part in asked:
            found |= {n.attr for n in ast.walk(part) if isinstance(n, ast.Attribute)} & BROAD
    return found


def test_nothing_else_goes_by_the_classes_of_psycopg():
    places = {
        str(path.relative_to(SOURCES)): found
        for path in SOURCES.rglob("*.py")
        if (found := broad_classes(path.read_text()))
    }
    assert places.keys() == MEANT, places
