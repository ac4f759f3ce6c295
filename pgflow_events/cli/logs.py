"""The log that a worker writes to stderr.

The flows' module may configure logging as it likes, for its own records. The records of the engine
and of `Context.log` are written in any case, each once. Log handlers of the module get these
records too, unless such a handler writes to the same place.
"""

import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from copy import copy
from datetime import UTC, datetime
from typing import Any, TextIO
from uuid import UUID

import orjson

from pgflow_events.handlers.failures import headline
from pgflow_events.texts import plain_json, unambiguous

LEVELS = ("debug", "info", "warning", "error")
PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))
BOUND = ("flow", "run_id", "step", "attempt")  # the fields that name an attempt
OURS = "pgflow_events"
INDENT = "    "
LARGE = 2**63
MOST_SHOWN = 1000  # characters of a message or argument that cannot be formatted


class TextFormatter(logging.Formatter):
    """A line for people. The lines of a traceback follow, indented.

    So only a record begins in the first column, whatever messages and errors contain.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's
        """The line without the traceback, but with the attempt unless the message names its run."""
        fields = bound(record)
        if str(fields.get("run_id")) in record.message:
            fields = {}
        words = [super().formatMessage(record), *(f"{k}={v}" for k, v in fields.items())]
        return unambiguous(" ".join(words))

    def format(self, record: logging.LogRecord) -> str:
        """The line and the indented lines after it."""
        line, *more = super().format(record).split("\n")
        return "\n".join([line, *(f"{INDENT}{unambiguous(text)}" for text in more)])


class JsonFormatter(logging.Formatter):
    """A JSON object on a line of its own."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as JSON."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **bound(record),
        }
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            line["traceback"] = record.exc_text
        fields = {name: storable(value) for name, value in line.items()}
        return plain_json(orjson.dumps(fields).decode(), keep="")


class JournalFormatter(JsonFormatter):
    """A JSON object after a priority. systemd's journal removes and stores the priority."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as `<6>` and JSON."""
        priority = next(p for level, p in PRIORITIES if record.levelno >= level)
        return f"<{priority}>{super().format(record)}"


FORMATS = {"text": TextFormatter, "json": JsonFormatter, "journal": JournalFormatter}


class Stderr(logging.StreamHandler[TextIO]):
    """Writes each record in the chosen format.

    If a message does not fit its arguments, a record that says so takes its place. logging itself
    would print a traceback, whose lines look like records and are not JSON.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record, or one that says why it cannot be formatted."""
        try:
            return super().format(record)
        except Exception as fault:  # noqa: BLE001 - the user's objects may raise anything
            return super().format(unformatted(record, fault))


def unformatted(record: logging.LogRecord, fault: Exception) -> logging.LogRecord:
    """A record that says why a message cannot be formatted, with its parts."""
    told = copy(record)
    place = f"{record.pathname}:{record.lineno}"
    parts = f"{shown(record.msg)} {shown(record.args)}"
    told.msg = f"{place}: this message cannot be formatted: {headline(fault)}: {parts}"
    told.args = ()
    return told


def shown(part: object) -> str:
    """The repr of a part of a message, or its type if repr() fails."""
    try:
        return repr(part)[:MOST_SHOWN]
    except Exception:  # noqa: BLE001 - the user's objects may raise anything
        name = type(part).__name__
        return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


class EngineLogger(logging.Logger):
    """A logger of the engine. Nothing disables it, and it writes with its own log handler.

    Its level still decides what it writes, so a module can set the level of `pgflow_events.tasks`.
    """

    own: logging.Handler

    @property
    def disabled(self) -> bool:
        """Always false, although `dictConfig` and `fileConfig` disable all loggers they find."""
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        pass

    def makeRecord(self, *args: Any, **kwargs: Any) -> logging.LogRecord:  # noqa: N802 - logging's
        """Make the record with the user's factory, or without it if the factory fails."""
        if logging.getLogRecordFactory() is logging.LogRecord:
            return super().makeRecord(*args, **kwargs)
        with suppress(BaseException):
            record: object = super().makeRecord(*args, **kwargs)
            if isinstance(record, logging.LogRecord):
                return record
        return plain_record(*args, **kwargs)

    def filter(self, record: logging.LogRecord) -> Any:
        """Ask the user's filters. A filter that fails lets the record pass."""
        try:
            return super().filter(record)
        except BaseException:  # noqa: BLE001 - the user's filter may raise anything
            return True

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's
        """Whether the logger's level admits this one. `logging.disable` has no effect."""
        return level >= self.getEffectiveLevel()

    def callHandlers(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's
        """Write the record, and pass it to the log handlers of other code."""
        hand_over(record, self.own)
        for handler in handlers_above(self):
            if record.levelno >= handler.level and not self._writes_there(handler):
                hand_over(record, handler)

    def _writes_there(self, handler: logging.Handler) -> bool:
        console = getattr(handler, "console", None)  # rich's log handler has one
        stream = getattr(console, "file", None) or getattr(handler, "stream", None)
        own = getattr(self.own, "stream", None)  # sys.stderr before the module was imported
        return any(stream is one for one in (own, sys.stderr, sys.stdout))


def handlers_above(logger: logging.Logger) -> list[logging.Handler]:
    """The log handlers of a logger, and of the loggers to which it propagates."""
    found = list(logger.handlers)
    if logger.propagate and logger.parent:
        found += handlers_above(logger.parent)
    return found


def hand_over(record: logging.LogRecord, handler: logging.Handler) -> None:
    """Pass a record to a log handler. The worker survives whatever the log handler does.

    It may raise an error, write to a closed stderr, or call `sys.exit()`.
    """
    try:
        handler.handle(record)
    except BaseException:  # noqa: BLE001 - as logging's own handlers do
        with suppress(BaseException):
            handler.handleError(record)


def plain_record(  # noqa: PLR0917 - logging's
    name: str,
    level: int,
    path: str,
    line: int,
    message: object,
    args: Any,
    exc_info: Any,
    func: str | None = None,
    extra: Mapping[str, object] | None = None,
    sinfo: str | None = None,
) -> logging.LogRecord:
    """Make a record from the arguments of `Logger.makeRecord`, without the user's factory."""
    record = logging.LogRecord(name, level, path, line, message, args, exc_info, func, sinfo)
    vars(record).update({**(extra or {}), **vars(record)})
    return record


def bound(record: logging.LogRecord) -> dict[str, Any]:
    """The fields of a record that name an attempt; empty if it is not about one."""
    return {name: vars(record)[name] for name in BOUND if name in vars(record)}


def storable(value: Any) -> Any:
    """A value that JSON can hold. A lone surrogate or a huge number would lose the whole line."""
    if type(value) in {UUID, datetime, bool, float}:
        return value
    if type(value) is int and -LARGE < value < LARGE:
        return value
    return str(value).encode("utf-8", "replace").decode()


def log_to_stderr(level: str, form: str) -> None:
    """Write the records of all loggers, and Python's warnings, to stderr."""
    for_all, for_engine = Stderr(), Stderr()
    for handler in (for_all, for_engine):  # two, because modules may change the root logger's
        handler.setFormatter(FORMATS[form]())
    logging.basicConfig(level=level.upper(), handlers=[for_all])
    logging.captureWarnings(capture=True)
    logging.getLogger(OURS).setLevel(level.upper())
    for name in list(logging.root.manager.loggerDict):
        if name == OURS or name.startswith(f"{OURS}."):
            shield(logging.getLogger(name), for_engine)


def shield(logger: logging.Logger, handler: logging.Handler) -> None:
    """Make a logger write with this log handler, whatever happens to other handlers."""
    logger.__class__ = EngineLogger
    vars(logger)["own"] = handler
