"""A workflow engine inside PostgreSQL with an event-driven trio worker.

    from pgflow_events import Flow, Worker, connect

Flows are defined in :mod:`pgflow_events.flow.flow`, run by :class:`Worker`, and started and
awaited through :func:`connect`. Errors are a tree in :mod:`pgflow_events.errors`.
"""

from blobstore import Blob
from pgflow_events.client.client import Client, connect
from pgflow_events.client.run import Run
from pgflow_events.embedded.server import EmbeddedServer
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
    RunFailed,
    SettingsError,
    UnknownFlow,
    UnknownRun,
    UnknownStep,
)
from pgflow_events.flow.flow import Context, Flow, Node, Step
from pgflow_events.schema.migrations import migrate_now
from pgflow_events.settings import Settings
from pgflow_events.telemetry import TaskEvent, log_task
from pgflow_events.worker.worker import Worker

__all__ = [
    "Blob",
    "Client",
    "Context",
    "DatabaseTooNew",
    "DefinitionError",
    "EmbeddedError",
    "EmbeddedServer",
    "Flow",
    "FlowMismatch",
    "HandlerCrashed",
    "HandlerTimeout",
    "MigrationError",
    "Misuse",
    "Node",
    "PermanentError",
    "PgflowError",
    "Run",
    "RunFailed",
    "Settings",
    "SettingsError",
    "Step",
    "TaskEvent",
    "UnknownFlow",
    "UnknownRun",
    "UnknownStep",
    "Worker",
    "connect",
    "log_task",
    "migrate_now",
]
