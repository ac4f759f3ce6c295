"""What a worker writes to stderr.

The flows' module, and what it imports, may configure logging as it likes: that goes for its own
records. Those of the engine, and what handlers say by `Context.log`, are written all the same,
each once; handlers that the module has installed get them too, unless they write to the same place.
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
BOUND = ("flow", "run_id", "step", "attempt")  # what is said of the attempt a record is about
OURS = "pgflow_events"
INDENT = "    "
LARGE = 2**63
MOST_SHOWN = 1000  # characters of what cannot be formatted


class TextFormatter(logging.Formatter):
    """A line for people; a traceback follows on lines of its own, which are indented.

    So what begins in the first column is a record, whatever stands in messages and errors.
    """

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's
        """The line without the traceback; the attempt too, unless the message names its run."""
        fields = bound(record)
        if str(fields.get("run_id")) in record.message:
            fields = {}
        words = [super().formatMessage(record), *(f"{k}={v}" for k, v in fields.items())]
        return unambiguous(" ".join(words))

    def format(self, record: logging.LogRecord) -> str:
        """The line and what follows."""
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
    """The same behind a priority, which systemd's journal takes off and files the line under."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as `<6>` and JSON."""
        priority = next(p for level, p in PRIORITIES if record.levelno >= level)
        return f"<{priority}>{super().format(record)}"


FORMATS = {"text": TextFormatter, "json": JsonFormatter, "journal": JournalFormatter}


class Stderr(logging.StreamHandler[TextIO]):
    """Writes each record as its formatter says.

    A message that does not fit its arguments is told in its place. logging itself would print a
    traceback, whose lines look like records and are no JSON.
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record, or why there is none."""
        try:
            return super().format(record)
        except Exception as fault:  # noqa: BLE001 - what is logged is the user's
            return super().format(unformatted(record, fault))


def unformatted(record: logging.LogRecord, fault: Exception) -> logging.LogRecord:
    """A record that says why the message of another one cannot be made, and of what."""
    told = copy(record)
    place = f"{record.pathname}:{record.lineno}"
    parts = f"{shown(record.msg)} {shown(record.args)}"
    told.msg = f"{place}: this message cannot be formatted: {headline(fault)}: {parts}"
    told.args = ()
    return told


def shown(part: object) -> str:
    """A part of a message as Python writes it, or else what it is."""
    try:
        return repr(part)[:MOST_SHOWN]
    except Exception:  # noqa: BLE001 - it is the user's
        name = type(part).__name__
        return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


class EngineLogger(logging.Logger):
    """A logger of the engine: nobody disables it, and it writes with a handler of its own.

    Its level, or that of the logger above it, still says what is written: who sets that of
    `pgflow_events.tasks` names it.
    """

    own: logging.Handler

    @property
    def disabled(self) -> bool:
        """No: `dictConfig` and `fileConfig` disable all loggers that they find."""
        return False

    @disabled.setter
    def disabled(self, value: bool) -> None:
        pass

    def makeRecord(self, *args: Any, **kwargs: Any) -> logging.LogRecord:  # noqa: N802 - logging's
        """The record, by the user's factory unless that fails."""
        if logging.getLogRecordFactory() is logging.LogRecord:
            return super().makeRecord(*args, **kwargs)
        with suppress(BaseException):
            record: object = super().makeRecord(*args, **kwargs)
            if isinstance(record, logging.LogRecord):
                return record
        return plain_record(*args, **kwargs)

    def filter(self, record: logging.LogRecord) -> Any:
        """What the user's filters say; one that fails lets the record pass."""
        try:
            return super().filter(record)
        except BaseException:  # noqa: BLE001 - it is the user's
            return True

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - logging's
        """Whether its level lets that pass, whatever `logging.disable` says."""
        return level >= self.getEffectiveLevel()

    def callHandlers(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's
        """Write the record, and hand it to the handlers of others."""
        hand_over(record, self.own)
        for handler in handlers_above(self):
            if record.levelno >= handler.level and not self._writes_there(handler):
                hand_over(record, handler)

    def _writes_there(self, handler: logging.Handler) -> bool:
        console = getattr(handler, "console", None)  # that of rich
        stream = getattr(console, "file", None) or getattr(handler, "stream", None)
        own = getattr(self.own, "stream", None)  # sys.stderr as it was before the module came
        return any(stream is one for one in (own, sys.stderr, sys.stdout))


def handlers_above(logger: logging.Logger) -> list[logging.Handler]:
    """The handlers of a logger, and of those to which it propagates."""
    found = list(logger.handlers)
    if logger.propagate and logger.parent:
        found += handlers_above(logger.parent)
    return found


def hand_over(record: logging.LogRecord, handler: logging.Handler) -> None:
    """Let a handler have a record. Its fault, or a closed stderr, ends no worker.

    Nor does one that calls `sys.exit()`.
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
    """A record of what `Logger.makeRecord` is given, made without the user's factory."""
    record = logging.LogRecord(name, level, path, line, message, args, exc_info, func, sinfo)
    vars(record).update({**(extra or {}), **vars(record)})
    return record


def bound(record: logging.LogRecord) -> dict[str, Any]:
    """Which attempt the record is about, if it is about one."""
    return {name: vars(record)[name] for name in BOUND if name in vars(record)}


def storable(value: Any) -> Any:
    """A value as JSON can hold it: a lone surrogate, or a number too large, would lose the line."""
    if type(value) in {UUID, datetime, bool, float}:
        return value
    if type(value) is int and -LARGE < value < LARGE:
        return value
    return str(value).encode("utf-8", "replace").decode()


def log_to_stderr(level: str, form: str) -> None:
    """Write the records of all loggers, and Python's warnings, to stderr."""
    for_all, for_engine = Stderr(), Stderr()
    for handler in (for_all, for_engine):  # modules may change that of the root logger
        handler.setFormatter(FORMATS[form]())
    logging.basicConfig(level=level.upper(), handlers=[for_all])
    logging.captureWarnings(capture=True)
    logging.getLogger(OURS).setLevel(level.upper())
    for name in list(logging.root.manager.loggerDict):
        if name == OURS or name.startswith(f"{OURS}."):
            shield(logging.getLogger(name), for_engine)


def shield(logger: logging.Logger, handler: logging.Handler) -> None:
    """Make a logger write with this handler, whatever becomes of all others."""
    logger.__class__ = EngineLogger
    vars(logger)["own"] = handler
