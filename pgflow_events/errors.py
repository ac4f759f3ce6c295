"""The errors of this package, as a tree.

    PgflowError
    ├── DefinitionError      a flow or step is not valid: a bad slug, a dependency named twice
    │   └── FlowMismatch     the flow stored under this slug has another shape
    ├── SettingsError        a DSN, a module path or an option cannot be used
    ├── MigrationError       the database cannot be migrated to this release
    │   └── DatabaseTooNew   a newer release has migrated the database
    ├── EmbeddedError        the embedded PostgreSQL cannot be started
    ├── UnknownFlow          no flow has this slug
    ├── UnknownRun           no run has this id
    ├── RunExists            a run has this id already
    ├── UnknownStep          the run has no such step
    ├── StepSkipped          the run has skipped the step whose output was asked for
    ├── RunFailed            the awaited run has failed
    │   └── RunCancelled     the awaited run was cancelled
    ├── Misuse               called without trio, or entered by the wrong kind of `with`
    ├── PermanentError       handlers raise it: the task fails now, without another attempt
    ├── HandlerTimeout       the handler ran longer than the timeout of its step
    └── HandlerCrashed       the process of a cpu_bound handler ended before the handler did

Errors about values, such as a refused value or a damaged blob, are :class:`blobstore.BlobError` and
its subclasses.
"""

from collections.abc import Mapping
from uuid import UUID

import psycopg


class PgflowError(Exception):
    """The base of all errors that this package raises on purpose."""


class DefinitionError(PgflowError):
    """A flow or step is not valid. The message names it and lists all faults."""


class FlowMismatch(DefinitionError):
    """The flow stored under this slug has another shape. The message lists the differences."""


class SettingsError(PgflowError):
    """A DSN, a module path or an option cannot be used."""


class MigrationError(PgflowError):
    """The database cannot be migrated to this release."""


class DatabaseTooNew(MigrationError):
    """A newer release of this package has migrated the database."""


class EmbeddedError(PgflowError):
    """The embedded PostgreSQL cannot be started."""


class UnknownFlow(PgflowError):
    """No flow has this slug in the database."""


class UnknownRun(PgflowError):
    """No run has this id."""


class RunExists(PgflowError, psycopg.errors.UniqueViolation):
    """A run has this id already, so no run was started.

    Attributes:
        run_id: The id.
    """

    def __init__(self, message: str, run_id: UUID | None = None) -> None:
        super().__init__(message)
        self.run_id = run_id


class UnknownStep(PgflowError):
    """The run has no such step. The message lists the steps that it has."""


class StepSkipped(PgflowError):
    """The run has skipped this step, because it skipped a step before it. The message says why."""


class RunFailed(PgflowError):
    """The awaited run has failed. The message says where and why.

    Attributes:
        run_id: The run. None if the error is about several runs.
        step: The slug of the first step that failed. None if no step has an error.
        errors: The stored error of each failed step, by the step's slug.
    """

    def __init__(
        self, message: str, run_id: UUID | None = None, errors: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.errors = dict(errors or {})
        self.step = next(iter(self.errors), None)


class RunCancelled(RunFailed):
    """The awaited run was cancelled. The message has the reason that was given.

    It is a kind of :class:`RunFailed`: either way there is no result.

    Attributes:
        reason: The reason that was given; None if none was.
    """

    def __init__(self, message: str, run_id: UUID | None = None, reason: str | None = None) -> None:
        super().__init__(message, run_id)
        self.reason = reason


class Misuse(PgflowError, RuntimeError, TypeError):
    """A call outside of trio, or ``with`` instead of ``async with``.

    The message says what to do.
    """


class PermanentError(PgflowError):
    """A handler raises this to fail its task now, without the attempts that are left."""


class HandlerTimeout(PgflowError):
    """The handler ran longer than the timeout of its step and was cancelled."""


class HandlerCrashed(PgflowError):
    """The process of a cpu_bound handler ended before the handler did."""
