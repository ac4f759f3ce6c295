"""Reports the state of a worker to systemd, by the protocol of sd_notify(3)."""

import logging
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from math import inf
from typing import Self

import trio

REST = 1.0  # seconds between two messages in which only figures differ
EXTENSION = 15.0  # seconds that a leaving worker asks for, again and again
MICROSECOND = 1e-6

log = logging.getLogger("pgflow_events.systemd")


class NotifySocket:
    """The socket of a service manager. Sending never blocks and never raises.

    Args:
        address: A path, or an abstract name that begins with `@`; empty without a manager.
    """

    def __init__(self, address: str = "") -> None:
        self.address = f"\0{address[1:]}" if address.startswith("@") else address
        self._faulty = False

    @classmethod
    def of(cls, environment: Mapping[str, str] = os.environ) -> Self:
        """The socket that the environment names, if it names one."""
        return cls(environment.get("NOTIFY_SOCKET", ""))

    def send(self, *assignments: str) -> bool:
        """Send one message, such as `send("READY=1", "STATUS=idle")`. Return whether it was sent.

        Of several failures in a row, the first is logged.
        """
        if not self.address:
            return True
        try:
            # A new socket for each message: nothing is kept open that somebody has to close.
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
    """The interval in which systemd expects a sign of life, in seconds; inf without watchdog."""
    meant_for = environment.get("WATCHDOG_PID", str(os.getpid()))
    time = environment.get("WATCHDOG_USEC", "")
    if meant_for != str(os.getpid()) or not time.isdecimal() or not int(time):
        return inf
    return int(time) * MICROSECOND


class Service:
    """The role that tells systemd whether the worker is ready, what it does, and that it is well.

    It feeds the watchdog at half of its interval or more often. It runs in the loop of the
    handlers, so a handler that blocks the loop also starves the watchdog.

    Args:
        notify: The socket to write to.
        watchdog: See :func:`watchdog_time`.
        ready: Waits until the worker is ready.
        status: Returns the figures, in a line.
        change: Waits until the figures have changed.
        complaint: Returns what has been wrong for longer than a number of seconds, if anything.
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
        """Report until cancelled; while nothing changes, only that the worker is well."""
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
        """Report that the worker is stopping, and ask for more time while it is."""
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
    """The assignment that asks for more time."""
    return f"EXTEND_TIMEOUT_USEC={EXTENSION / MICROSECOND:.0f}"
