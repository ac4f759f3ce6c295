"""Calls of cpu_bound handlers, each in a process of its own.

The processes come from trio-parallel (the extra `cpu`): fresh Python processes, at most one for
each CPU, used again and again. Values cross as text and bytes, in the form in which they are
stored; a handler crosses as its module and name. A child that crashes harms no other task, and a
cancellation kills it.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import cache, reduce
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import parent_process
from pathlib import Path
from typing import Any
from uuid import UUID

import trio

from blobstore.values.codec import Payload, parse, serialize
from pgflow_events.errors import HandlerCrashed, SettingsError
from pgflow_events.flow.step import SkippableStep, Step
from pgflow_events.handlers.failures import Failed, Failure, failure_of, refusals_of

NOWHERE = UUID(int=0)  # the id of values that were never stored

Answer = Payload | Path | Failure


def check_installed(steps: Iterable[Step[Any]]) -> None:
    """Check that the packages that these steps need are installed.

    Raises:
        SettingsError: A step is cpu_bound, but trio-parallel is not installed.
    """
    needing = [step for step in steps if step.cpu_bound]
    if needing and not find_spec("trio_parallel"):
        raise SettingsError(
            f"step {needing[0].slug!r} is cpu_bound: pip install 'pgflow-events[cpu]'"
        )


class Processes:
    """Calls handlers in processes. The child checks the kind and size of the output."""

    def __init__(self) -> None:
        self._limiter = trio.CapacityLimiter(os.cpu_count() or 1)

    async def call(self, handler: Callable[..., Any], arguments: Sequence[Any]) -> Any:
        """Call a handler; a cancellation kills its process.

        Raises:
            Failed: The handler raised an error.
            HandlerCrashed: The process ended before the handler did.
        """
        from trio_parallel import BrokenWorkerError, run_sync  # noqa: PLC0415 - is optional

        values = await trio.to_thread.run_sync(_pack_all, arguments, abandon_on_cancel=True)
        try:
            answer: Answer = await run_sync(
                work,
                handler.__module__,
                handler.__qualname__,
                values,
                kill_on_cancel=True,
                limiter=self._limiter,
            )
        except BrokenWorkerError as error:
            raise HandlerCrashed(_how_it_ended(error.args[-1].exitcode)) from None
        if isinstance(answer, Failure):
            raise Failed(answer)
        return answer if isinstance(answer, Path) else parse(NOWHERE, answer)


def _pack_all(values: Iterable[Any]) -> list[Payload]:
    """Values in the form in which they cross."""
    return [_pack(value) for value in values]


def _pack(value: Any) -> Payload:
    """A value in the form in which it crosses."""
    form = serialize(value, threshold=-1, cap=sys.maxsize)
    assert isinstance(form, Payload)  # noqa: S101 - nothing is that short
    return form


def work(module: str, name: str, values: Sequence[Payload]) -> Answer:
    """Call a handler, in the child. The child ignores SIGHUP: the worker decides what it means."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    _end_with_parent()
    try:
        output = _find(module, name)(*[parse(NOWHERE, value) for value in values])
        # Unpickling a subclass of Path would run the code of that class.
        with refusals_of(f"{name}() returned what"):
            return Path(output) if type(output) is type(Path()) else _pack(output)
    except BaseException as error:  # noqa: BLE001 - handlers may raise anything
        return failure_of(error)


@cache
def _end_with_parent() -> None:
    """End this process when the worker ends, even if the worker is killed."""

    def wait() -> None:
        if parent := parent_process():
            parent.join()
            os._exit(1)

    threading.Thread(target=wait, name="end with parent", daemon=True).start()


def _find(module: str, name: str) -> Callable[..., Any]:
    """The function of this name in a module; if it is a step by now, the step's handler."""
    found: Any = reduce(getattr, name.split("."), import_module(module))
    is_step = isinstance(found, (Step, SkippableStep))
    handler: Callable[..., Any] = found.handler if is_step else found
    return handler


def _how_it_ended(code: int | None) -> str:
    """The error text for a child that has ended."""
    if code is None or code >= 0:
        return f"the process of the handler ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    hint = ": is memory short?" if -code == signal.SIGKILL else ""
    return f"the process of the handler was ended by {name}{hint}"
