"""What four modules on psycopg (`connection.py` names them) take for granted and nobody promises.

psycopg's internals move in patch releases. When one of these tests fails with a new
release, read what changed in psycopg before adapting them.
"""

import ast
import inspect
import socket
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
from psycopg import capabilities, conninfo, errors, pq
from psycopg._preparing import PrepareManager
from psycopg.adapt import AdaptersMap
from psycopg.types import json
from psycopg.waiting import Ready, Wait

from pgflow_events.postgres.connection import Connection
from pgflow_events.postgres.waiting import READ, WRITE

SIGNATURES = {
    psycopg.AsyncConnection.__init__: ["self", "pgconn", "row_factory"],
    psycopg.AsyncConnection.wait: ["self", "gen", "interval", "timeout"],
    psycopg.AsyncConnection.cancel_safe: ["self", "timeout"],
    psycopg.AsyncConnection.close: ["self"],
    psycopg.AsyncConnection.commit: ["self"],
    psycopg.AsyncConnection.rollback: ["self"],
    psycopg.AsyncConnection.pipeline: ["self"],
    psycopg.AsyncConnection.notifies: ["self", "timeout", "stop_after"],
    psycopg.AsyncConnection.transaction: ["self", "savepoint_name", "force_rollback"],
    psycopg.AsyncConnection.add_notify_handler: ["self", "callback"],
    psycopg.AsyncConnection._connect_gen: ["conninfo"],
    psycopg.AsyncConnection._get_connection_params: ["conninfo", "kwargs"],
    psycopg.AsyncConnection._cancel_gen: ["self"],
    psycopg.AsyncConnection._should_cancel: ["self"],
    psycopg.AsyncConnection._try_cancel: ["self", "timeout"],
    psycopg.AsyncPipeline.__init__: ["self", "conn", "_no_lock"],
    psycopg.AsyncConnection._check_connection_ok: ["self"],
    psycopg.AsyncConnection._pipeline_nolock: ["self"],
    psycopg.AsyncPipeline.__aenter__: ["self"],
    psycopg.AsyncPipeline.__aexit__: ["self", "exc_type", "exc_val", "exc_tb"],
    psycopg.AsyncPipeline._enter_gen: ["self"],
    psycopg.AsyncPipeline._exit_gen: ["self"],
    psycopg.AsyncPipeline._fetch_gen: ["self", "flush"],
    psycopg.AsyncPipeline._exit: ["self", "exc"],
    psycopg.AsyncPipeline._enqueue_sync: ["self"],
    psycopg.AsyncPipeline._process_results: ["self", "queued", "results"],
    psycopg.AsyncTransaction.__init__: ["self", "connection", "savepoint_name", "force_rollback"],
    psycopg.AsyncTransaction.__aexit__: ["self", "exc_type", "exc_val", "exc_tb"],
    psycopg.AsyncCursor._fetch_pipeline: ["self"],
    psycopg.AsyncCursor._close: ["self"],
    psycopg.AsyncCursor._stream_send_gen: ["self", "query", "params", "binary", "size"],
    psycopg.AsyncServerCursor.close: ["self"],
    PrepareManager.__init__: ["self"],
    PrepareManager.get: ["self", "query", "prepare"],
    PrepareManager.key: ["query"],
    PrepareManager.maybe_add_to_cache: ["self", "query", "prep", "name"],
    PrepareManager.validate: ["self", "key", "prep", "name", "results"],
    PrepareManager.maintain_gen: ["self", "conn"],
    capabilities.has_cancel_safe: ["check"],
    conninfo.conninfo_attempts: ["params"],
    conninfo.timeout_from_conninfo: ["params"],
    conninfo.make_conninfo: ["conninfo", "kwargs"],
    json.set_json_loads: ["loads", "context"],
    AdaptersMap.__init__: ["self", "template", "types"],
}
PGCONN = [
    "cancel_conn",
    "consume_input",
    "finish",
    "flush",
    "get_cancel",
    "notifies",
    "notify_handler",
    "pipeline_status",
    "put_copy_end",
    "send_flush_request",
    "socket",
    "transaction_status",
]
# All that makes a query, but for AsyncConnection and COPY, which are looked at more closely.
MODULES = [
    "_connection_base",
    "_copy_base",
    "_cursor_base",
    "_pipeline_async",
    "_pipeline_base",
    "_server_cursor_async",
    "_server_cursor_base",
    "cursor_async",
    "transaction",
]
ASYNCIO = {
    "asyncio",
    "waiting",
    "ALock",
    "AQueue",
    "AWorker",
    "aspawn",
    "agather",
    "asleep",
    "conninfo_attempts_async",
    "get_running_loop",
}


def parse(module: str) -> ast.Module:
    spec = find_spec(f"psycopg.{module}")
    assert spec
    assert spec.origin
    return ast.parse(Path(spec.origin).read_text())


def names(node: ast.AST) -> set[str]:
    return {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}


def imported(node: ast.AST) -> set[str]:
    found = set()
    for child in ast.walk(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name for alias in child.names}
            found.add(getattr(child, "module", None) or "")
    return found


def methods(module: str, class_name: str) -> list[ast.AsyncFunctionDef | ast.FunctionDef]:
    (found,) = (
        node
        for node in parse(module).body
        if isinstance(node, ast.ClassDef) and node.name == class_name
    )
    kinds = ast.AsyncFunctionDef | ast.FunctionDef
    return [node for node in found.body if isinstance(node, kinds)]


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda function: function.__qualname__)
def test_a_function_has_the_parameters_we_know(function):
    assert list(inspect.signature(function).parameters) == SIGNATURES[function]


def test_our_connect_takes_what_psycopg_takes():
    ours = inspect.signature(Connection.connect).parameters
    assert list(ours) == list(inspect.signature(psycopg.AsyncConnection.connect).parameters)


def test_a_generator_waits_in_the_bits_we_know():
    assert (Wait.R, Wait.W, Wait.RW) == (READ, WRITE, READ | WRITE)
    assert (Ready.NONE, Ready.R, Ready.W, Ready.RW) == (0, READ, WRITE, READ | WRITE)


def test_a_connecting_generator_yields_a_descriptor_and_what_to_wait_for():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        gen = Connection._connect_gen(f"hostaddr=127.0.0.1 port={port} user=x")
        fd, want = next(gen)
        assert fd > 2
        assert want in (READ, WRITE)
        gen.close()


def test_a_connection_has_the_attributes_we_set():
    pgconn = pq.PGconn.connect_start(b"hostaddr=127.0.0.1 port=1")
    conn = psycopg.AsyncConnection(pgconn)
    pgconn.finish()
    ours = {"lock", "row_factory", "cursor_factory", "server_cursor_factory"}
    private = {"_adapters", "_autocommit", "_closed", "_num_transactions", "_pipeline", "_prepared"}
    assert ours | private <= vars(conn).keys()
    assert (conn._adapters, conn._pipeline) == (None, None)
    assert (conn._autocommit, conn._closed) == (False, False)


@pytest.mark.parametrize("name", PGCONN)
def test_the_libpq_wrapper_has(name):
    assert name in dir(pq.PGconn.connect_start(b"hostaddr=127.0.0.1 port=1"))


def test_prepared_statements_are_kept_as_we_know_it():
    prepared = PrepareManager()
    assert vars(prepared).keys() == {"_counts", "_names", "_prepared_idx", "_to_flush"}
    prepared._names[b"select", ()] = b"name"
    prepared.clear()
    assert list(prepared._to_flush) == [None]  # for DEALLOCATE ALL


def attributes_set(module: str, *names: str) -> set[str]:
    """The functions of a module that set one of the attributes, also of something else."""
    return {
        function.name
        for function in ast.walk(parse(module))
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and node.attr in names
    }


def test_names_of_prepared_statements_never_repeat():
    assert attributes_set("_preparing", "_prepared_idx") == {"__init__", "get"}


def test_a_connection_has_a_pipeline_where_we_say_so_only():
    assert attributes_set("connection_async", "_pipeline") == {"pipeline", "_pipeline_nolock"}
    assert not [module for module in MODULES if attributes_set(module, "_pipeline") - {"__init__"}]


def test_all_the_answers_of_a_pipeline_go_through_two_functions():
    """They raise what they find, so that wait() hears of each error."""
    callers = {
        function.name
        for function in methods("_pipeline_base", "BasePipeline")
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and node.attr == "_process_results"
    }
    assert callers == {"_communicate_gen", "_fetch_gen"}
    assert issubclass(errors.PipelineAborted, psycopg.Error)


def test_a_query_notes_its_statement_before_it_waits_and_all_is_deallocated_after_it():
    (maybe_prepare,) = (
        m for m in methods("_cursor_base", "BaseCursor") if m.name == "_maybe_prepare_gen"
    )
    calls = [
        n.func.attr
        for n in ast.walk(maybe_prepare)
        if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute)
    ]
    assert {"_get_prepared", "maybe_add_to_cache", "validate"} <= set(calls)
    for method in methods("_cursor_base", "BaseCursor"):
        if method.name.startswith("_execute_gen") or method.name.startswith("_executemany_gen"):
            assert "maintain_gen" in ast.unparse(method.body[-1]), method.name


def test_a_transaction_that_could_not_end_is_called_failed():
    assert psycopg.AsyncTransaction.Status.FAILED == "failed"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_knows_nothing_of_asyncio(module):
    tree = parse(module)
    assert not (names(tree) | imported(tree)) & (ASYNCIO | {"_acompat"})


def test_of_a_connection_only_what_we_replace_knows_of_asyncio():
    knowing = {
        method.name
        for method in methods("connection_async", "AsyncConnection")
        if names(method) & (ASYNCIO | {"_INTERRUPTED"})
    }
    assert knowing == {"__init__", "connect", "cancel_safe", "wait"}


def test_of_copy_only_the_queued_writer_knows_of_asyncio():
    tree = parse("_copy_async")
    knowing = {
        node.name for node in tree.body if isinstance(node, ast.ClassDef) and names(node) & ASYNCIO
    }
    assert knowing == {"AsyncQueuedLibpqWriter"}
    assert "asyncio" not in imported(tree)
    (init,) = (m for m in methods("_copy_async", "AsyncCopy") if m.name == "__init__")
    assert "AsyncLibpqWriter" in names(init)


@pytest.mark.parametrize("module", ["connection_async", "_copy_async", "_typeinfo", *MODULES])
def test_what_waits_gives_a_generator_and_no_more(module):
    """Our wait() has no `timeout`; notifies(), which we replace, is the one to use it."""
    tree = parse(module)
    replaced = {
        call
        for node in ast.walk(tree)
        if isinstance(node, ast.AsyncFunctionDef) and node.name in {"notifies", "wait"}
        for call in ast.walk(node)
    }
    for node in ast.walk(tree):
        if (
            node not in replaced
            and isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr == "wait"
        ):
            assert len(node.args) == 1, ast.unparse(node)
            assert not node.keywords, ast.unparse(node)
