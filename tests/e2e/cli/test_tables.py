"""What commands show at a terminal of 80 columns."""

import pytest
import trio

from pgflow_events import Flow
from pgflow_events.core.flows import define_flow
from pgflow_events.postgres.connection import Connection

from ...parts.storing import blobs_on, complete, start
from ..terminal import at_terminal

FLOW, STEP = "analyze_website_and_all", "words_of_the_pages"
site = Flow(FLOW)


@site.step(site.input, slug=STEP)
def words(run: object) -> str:
    return f"{run} " * 100_000


@pytest.fixture
def run_id(database: str) -> str:
    """A run whose output is a blob."""

    async def make() -> str:
        async with await Connection.connect(database) as connection:
            await define_flow(connection, site.definition())
            found = await start(connection, blobs_on(connection), FLOW, {})
            await complete(connection, blobs_on(connection), FLOW, words(2))
            return str(found)

    return trio.run(make)


def test_in_80_columns_no_table_breaks_a_slug(environment, run_id):
    at_80 = environment | {"COLUMNS": "80", "TERM": "dumb"}
    named = {
        ("runs",): [FLOW, run_id],
        ("show", run_id): [FLOW, STEP, run_id],
        ("blob", "stat"): [FLOW, STEP],
        ("doctor",): [FLOW],
    }
    broken = {}
    for command, words in named.items():
        answer = at_terminal(command, at_80)
        assert answer.code == 0, answer
        if not all(word in answer.output for word in words):
            broken[command] = answer.output
    assert broken == {}
