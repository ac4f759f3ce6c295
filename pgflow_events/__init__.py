"""A workflow engine inside PostgreSQL, with an event-driven worker in trio.

    import trio

    from pgflow_events import EmbeddedServer, Flow, Worker, connect, migrate_now

    hello = Flow("hello", input=str)

    @hello.step(hello.input)
    async def greeting(name: str) -> str:
        return f"hello {name}"

    async def main(dsn: str) -> None:
        async with trio.open_nursery() as nursery, connect(dsn) as client:
            worker = Worker([hello], dsn)
            await nursery.start(worker.run)
            run = await client.start(hello, "world")
            print(await run.output(greeting))
            worker.stop()

    if __name__ == "__main__":
        with EmbeddedServer() as server:  # or use the DSN of your own PostgreSQL
            migrate_now(server.dsn)
            trio.run(main, server.dsn)

A :class:`Flow` defines steps, a :class:`Worker` runs them, and a client from :func:`connect` starts
runs and waits for them. Errors are a tree in :mod:`pgflow_events.errors`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from blobstore import (
    Blob,
    BlobDamaged,
    BlobError,
    BlobForgotten,
    BlobMissing,
    BlobMisuse,
    BlobUnavailable,
    KeyMissing,
    NotAList,
    NotSealed,
    ValueRefused,
    ValueTooLarge,
)
from pgflow_events.client import Client, Run, connect
from pgflow_events.embedded import EmbeddedServer
from pgflow_events.errors import (
    DatabaseTooNew,
    DefinitionError,
    EmbeddedError,
    FlowMismatch,
    HandlerCrashed,
    HandlerTimeout,
    MigrationError,
    Misuse,
    PermanentError,
    PgflowError,
    RunCancelled,
    RunExists,
    RunFailed,
    SettingsError,
    StepSkipped,
    UnknownFlow,
    UnknownRun,
    UnknownStep,
)
from pgflow_events.flow import (
    Condition,
    Context,
    EachNode,
    Flow,
    Node,
    SkippableStep,
    Step,
    StepOptions,
)
from pgflow_events.schema.migrations import migrate, migrate_now
from pgflow_events.settings import Settings
from pgflow_events.telemetry import Hook, TaskEvent, log_task
from pgflow_events.worker import Worker

if TYPE_CHECKING:
    from blobstore.keys import KeyRing, KeyRingError
    from blobstore.objects import ObjectStore

# What needs a library of its own, which not everybody has.
ELSEWHERE = {
    "KeyRing": "blobstore.keys",
    "KeyRingError": "blobstore.keys",
    "ObjectStore": "blobstore.objects",
}


def __getattr__(name: str) -> Any:
    if name in ELSEWHERE:
        return getattr(import_module(ELSEWHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


__all__ = [
    "Blob",
    "BlobDamaged",
    "BlobError",
    "BlobForgotten",
    "BlobMissing",
    "BlobMisuse",
    "BlobUnavailable",
    "Client",
    "Condition",
    "Context",
    "DatabaseTooNew",
    "DefinitionError",
    "EachNode",
    "EmbeddedError",
    "EmbeddedServer",
    "Flow",
    "FlowMismatch",
    "HandlerCrashed",
    "HandlerTimeout",
    "Hook",
    "KeyMissing",
    "KeyRing",
    "KeyRingError",
    "MigrationError",
    "Misuse",
    "Node",
    "NotAList",
    "NotSealed",
    "ObjectStore",
    "PermanentError",
    "PgflowError",
    "Run",
    "RunCancelled",
    "RunExists",
    "RunFailed",
    "Settings",
    "SettingsError",
    "SkippableStep",
    "Step",
    "StepOptions",
    "StepSkipped",
    "TaskEvent",
    "UnknownFlow",
    "UnknownRun",
    "UnknownStep",
    "ValueRefused",
    "ValueTooLarge",
    "Worker",
    "connect",
    "log_task",
    "migrate",
    "migrate_now",
]
