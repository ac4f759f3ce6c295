"""What the docstrings of the public modules show, done."""

import ast
import inspect
from collections.abc import Awaitable
from typing import Any

import trio

import blobstore
import pgflow_events
from pgflow_events.client import client
from pgflow_events.flow import flow
from pgflow_events.worker import worker

from ...parts.reference.docstrings import examples
from ..blobs.test_blobstore import PAGE, Database, store

__all__ = ["store"]  # a fixture


async def perform(module: Any, names: dict[str, Any]) -> None:
    """Run the example of a module, with these names, to which it adds its own."""
    (example,) = examples(module.__doc__)
    code = compile(example, module.__name__, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    ran: Awaitable[None] | None = eval(code, names)
    if inspect.isawaitable(ran):
        await ran


async def test_a_worker_runs_the_flow_that_a_client_starts_as_their_modules_show(database, capsys):
    names = {"trio": trio, "dsn": database}
    names |= {name: getattr(pgflow_events, name) for name in pgflow_events.__all__}
    names["serve"] = lambda: perform(client, names)
    await perform(flow, names)
    await perform(worker, names)
    assert capsys.readouterr().out.splitlines() == [
        "HELLO WORLD",
        "{'shout': 'HELLO ADA'}",
        "{'shout': 'HELLO GRACE'}",
    ]


async def test_a_value_is_stored_and_loaded_as_the_blobstore_shows(store: Database):
    owner = await store.owner()
    async with store.lend() as connection:
        names = vars(blobstore) | {"make": store.make, "connection": connection, "page": PAGE}
        names["run_id"] = owner.run_id
        await perform(blobstore, names)
    assert names["page"] == PAGE
    assert names["loaded"] is not None
