"""What can go wrong, as a tree.

    PgflowError
    ├── DefinitionError      a flow that cannot be: a bad slug, a dependency named twice
    │   └── FlowMismatch     the flow stored under this slug has another shape
    ├── SettingsError        a DSN, a module path or an option that cannot be used
    ├── MigrationError       the database cannot be brought to this release
    │   └── DatabaseTooNew   it was migrated by a newer release
    ├── EmbeddedError        the embedded PostgreSQL cannot be started
    ├── UnknownFlow          no flow has this slug
    ├── UnknownRun           no run has this id
    ├── UnknownStep          the run has no such step
    ├── RunFailed            the awaited run has failed
    ├── Misuse               called without trio, or entered by the wrong kind of `with`
    ├── PermanentError       raised by a handler: fail now, do not try again
    ├── HandlerTimeout       the handler ran longer than its step allows
    └── HandlerCrashed       the process of a cpu_bound handler ended before the handler did

Errors about values (what a handler returned, a damaged blob) are
:class:`blobstore.BlobError` and its subclasses.
"""

from collections.abc import Mapping
from uuid import UUID


class PgflowError(Exception):
    """Any error this package raises on purpose."""


class DefinitionError(PgflowError):
    """A flow or step that cannot be, named in the message."""


class FlowMismatch(DefinitionError):
    """The flow stored under this slug has another shape; the message lists the differences."""


class SettingsError(PgflowError):
    """A DSN, a module path or an option that cannot be used."""


class MigrationError(PgflowError):
    """The database cannot be brought to this release."""


class DatabaseTooNew(MigrationError):
    """The database was migrated by a newer release of this package."""


class EmbeddedError(PgflowError):
    """The embedded PostgreSQL cannot be started."""


class UnknownFlow(PgflowError):
    """No flow has this slug in the database."""


class UnknownRun(PgflowError):
    """No run has this id."""


class UnknownStep(PgflowError):
    """The run has no such step; the message says which it has."""


class RunFailed(PgflowError):
    """The awaited run has failed; the message says where and why.

    Attributes:
        run_id: The run; None where the error is about several.
        step: The slug of the first step that failed; None if no step says why.
        errors: What is stored of each failed step, by its slug.
    """

    def __init__(
        self, message: str, run_id: UUID | None = None, errors: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.run_id = run_id
        self.errors = dict(errors or {})
        self.step = next(iter(self.errors), None)


class Misuse(PgflowError, RuntimeError, TypeError):
    """Called where trio does not run, or entered by ``with`` in place of ``async with``.

    The message says what to do.
    """


class PermanentError(PgflowError):
    """Raised by a handler: its task fails now, however many attempts are left."""


class HandlerTimeout(PgflowError):
    """The handler ran longer than its step's timeout and was cancelled."""


class HandlerCrashed(PgflowError):
    """The process of a cpu_bound handler has ended, and the handler had not."""
