"""DBOS: workflows started through a queue by another process. Steps are code, in order."""

import os
import threading

import sqlalchemy as sa
import talk
from dbos import DBOS, DBOSClient, DBOSConfig

QUEUE, VERSION = "bench", "1"
# An executor's own id, without which two processes would recover each other's workflows.
CONFIG = DBOSConfig(
    name="bench",
    system_database_url=talk.URL,
    application_version=VERSION,
    executor_id=str(os.getpid()),
    log_level="ERROR",
)
NAMES = {"wake": "job", "drain": "job", "chain": "chain", "load": "chain"}


@DBOS.step()
def value(number: int) -> int:
    return number


@DBOS.step()
def last(number: int) -> None:
    talk.started(number)


@DBOS.step()
def first(number: int) -> str:
    return talk.first(number)


@DBOS.step()
def second(page: str) -> int:
    return talk.second(page)


@DBOS.workflow(name="job")
def job(number: int) -> None:
    talk.started(number)


@DBOS.workflow(name="chain")
def chain(number: int) -> None:
    if talk.QUIET:
        talk.started(number)
    one = value(number)
    two = value(one)
    value(one)
    last(two)


@DBOS.workflow(name="payload")
def payload(number: int) -> None:
    second(first(number))


def launch() -> None:
    """Connect, and migrate the tables."""
    DBOS(config=CONFIG)
    DBOS.launch()
    DBOS.register_queue(QUEUE, **talk.OPTIONS)


def set_up() -> None:
    """What the first launch does."""
    launch()
    DBOS.destroy()


def work() -> None:
    """Until the end."""
    talk.ready_to_work()
    launch()
    threading.Event().wait()


def enqueue() -> None:
    """Enqueue workflows as the driver wishes."""
    client = DBOSClient(system_database_url=talk.URL, application_name="bench")
    name = NAMES.get(talk.ORDER["scenario"], "payload")
    engine = sa.create_engine(talk.URL.replace("postgresql://", "postgresql+psycopg://"))
    for command in talk.commands():
        if command.bulk:
            with engine.begin() as connection:
                for number in command.numbers:
                    client.enqueue_in_transaction(connection, options(name), number)
        for number in () if command.bulk else command.paced():
            client.enqueue(options(name), number)


def options(name: str) -> dict[str, str]:
    """Which workflow, and where."""
    return {"workflow_name": name, "queue_name": QUEUE, "app_version": VERSION}


if __name__ == "__main__":
    {"setup": set_up, "work": work, "enqueue": enqueue}[talk.ROLE]()
