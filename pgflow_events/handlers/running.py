"""Lists the attempts whose handlers run in this process."""

import os
from contextlib import AbstractContextManager

from pgflow_events.core.tasks import ClaimedTask


class Running:
    """The attempts whose handlers run, including those in threads that outlive their attempt."""

    def __init__(self) -> None:
        self._tasks: dict[object, ClaimedTask] = {}
        self._pid = os.getpid()

    @property
    def tasks(self) -> list[ClaimedTask]:
        """Each as often as it runs. Threads may come and go meanwhile."""
        return list(self._tasks.values())

    def note(self, task: ClaimedTask) -> AbstractContextManager[None]:
        """Count the attempt as running while the block runs."""
        return Note(self._tasks, task, self._pid)


class Note:
    """An entry in `tasks` while the block runs.

    This is a class because a generator would take several times as long, and each attempt has one.
    """

    __slots__ = ("_pid", "_task", "_tasks")

    def __init__(self, tasks: dict[object, ClaimedTask], task: ClaimedTask, pid: int) -> None:
        self._tasks, self._task, self._pid = tasks, task, pid

    def __enter__(self) -> None:
        self._tasks[self] = self._task

    def __exit__(self, *_: object) -> None:
        if os.getpid() != self._pid:
            # A handler has forked, and its child came back here: it is not the worker.
            os._exit(1)
        del self._tasks[self]
