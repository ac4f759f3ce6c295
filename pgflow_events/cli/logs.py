"""What a worker writes to stderr."""

import logging
from datetime import UTC, datetime
from typing import Any

import orjson

LEVELS = ("debug", "info", "warning", "error")
PRIORITIES = ((logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6), (logging.NOTSET, 7))
BOUND = ("run_id", "step", "attempt")  # what Context.log says of itself


class TextFormatter(logging.Formatter):
    """A line for people; a traceback follows on lines of its own."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's
        """The line without the traceback."""
        return " ".join(
            [super().formatMessage(record), *(f"{k}={v}" for k, v in bound(record).items())]
        )


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
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line, str).decode()


class JournalFormatter(JsonFormatter):
    """The same behind a priority, which systemd's journal takes off and files the line under."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as `<6>` and JSON."""
        priority = next(p for level, p in PRIORITIES if record.levelno >= level)
        return f"<{priority}>{super().format(record)}"


FORMATS = {"text": TextFormatter, "json": JsonFormatter, "journal": JournalFormatter}


def bound(record: logging.LogRecord) -> dict[str, Any]:
    """Which attempt the record is about, if it came from a handler."""
    return {name: vars(record)[name] for name in BOUND if name in vars(record)}


def log_to_stderr(level: str, form: str) -> None:
    """Write the records of all loggers, and Python's warnings, to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(FORMATS[form]())
    logging.basicConfig(level=level.upper(), handlers=[handler])
    logging.captureWarnings(capture=True)
