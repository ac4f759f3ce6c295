"""What systemd is told of a worker, by the protocol of sd_notify(3)."""

import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from math import inf
from typing import Self

import trio

REST = 1.0  # seconds between two messages that only tell of other figures
EXTENSION = 15.0  # seconds that a worker which leaves asks for, again and again
MICROSECOND = 1e-6

log = logging.getLogger("pgflow_events.systemd")


class NotifySocket:
    """Where a service manager hears. To speak never blocks and never fails.

    Args:
        address: A path, or an abstract name that begins with `@`; empty where nobody hears.
    """

    def __init__(self, address: str = "") -> None:
        self.address = f"\0{address[1:]}" if address.startswith("@") else address
        self._faulty = False

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """The one that the environment names, if it names any."""
        return cls(environment.get("NOTIFY_SOCKET", ""))

    def send(self, *assignments: str) -> bool:
        """Send one message, such as `send("READY=1", "STATUS=idle")`; whether it was taken.

        The log tells of the first of several failures.
        """
        if not self.address:
            return True
        try:
            # Made anew each time: it holds nothing, and nobody has to close it.
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaking:
                speaking.setblocking(False)
                speaking.sendto("\n".join(assignments).encode(), self.address)
        except OSError as error:
            if not self._faulty:
                log.warning("cannot reach systemd: %s", error)
            self._faulty = True
            return False
        self._faulty = False
        return True


def watchdog_time(environment: Mapping[str, str] = os.environ) -> float:
    """Seconds within which systemd wants to hear that this process is well; inf if it does not."""
    meant_for = environment.get("WATCHDOG_PID", str(os.getpid()))
    time = environment.get("WATCHDOG_USEC", "")
    if meant_for != str(os.getpid()) or not time.isdecimal() or not int(time):
        return inf
    return int(time) * MICROSECOND


class Service:
    """The role that tells systemd whether the worker is ready, what it does, and that it is well.

    The watchdog is fed at half of its time, or more often, in the loop that the handlers share: one
    that blocks the loop starves it.

    Args:
        notify: Where to tell.
        watchdog: See :func:`watchdog_time`.
        ready: Waits until the worker works.
        status: The figures, in a line.
        change: Waits until they have changed.
        complaint: What has been wrong for longer than so many seconds, if anything has.
    """

    def __init__(
        self,
        notify: NotifySocket,
        watchdog: float,
        *,
        ready: Callable[[], Awaitable[None]],
        status: Callable[[], str],
        change: Callable[[], Awaitable[None]],
        complaint: Callable[[float], str | None],
    ) -> None:
        self._notify, self._watchdog = notify, watchdog
        self._ready, self._status, self._change = ready, status, change
        self._complaint = complaint
        self._told = ""
        self._sick = self._leaving = False
        self._interval = watchdog / 2
        self._wait = trio.CancelScope()

    async def run(self) -> None:
        """Tell it until cancelled; while nothing changes, only that the worker is well."""
        if not self._notify.address:
            return
        await self._ready()
        while not self._notify.send("READY=1"):  # noqa: ASYNC110 - systemd may be busy
            await trio.sleep(REST)
        while True:
            self._tell()
            with trio.move_on_after(self._interval) as self._wait:
                await self._change()
                await trio.sleep(REST)

    def say(self, status: str) -> None:
        """Show a status at once."""
        self._notify.send(f"STATUS={status}")

    def leave(self) -> None:
        """Tell that the worker finishes what is at hand, and goes on living while it does."""
        self._leaving = True
        self._interval = min(self._interval, EXTENSION / 3)
        self._notify.send("STOPPING=1")
        self._tell()
        self._wait.cancel()

    def _tell(self) -> None:
        status = f"stopping: {self._status()}" if self._leaving else self._status()
        news = []
        if self._is_well() and self._watchdog < inf:
            news.append("WATCHDOG=1")
        if self._leaving:
            news.append(_extension())
        if status != self._told:
            news.append(f"STATUS={status}")
        if news and self._notify.send(*news):
            self._told = status

    def _is_well(self) -> bool:
        complaint = self._complaint(self._watchdog)
        if complaint and not self._sick:
            log.error("%s: systemd's watchdog is not fed", complaint)
        self._sick = bool(complaint)
        return not self._sick


def _extension() -> str:
    """The word that asks for more time."""
    return f"EXTEND_TIMEOUT_USEC={EXTENSION / MICROSECOND:.0f}"
