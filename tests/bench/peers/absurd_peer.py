"""Absurd, as its quick start has it: the synchronous worker, code with checkpointed steps."""

from collections.abc import Callable
from typing import Any

import psycopg
import talk
from absurd_sdk import Absurd
from absurdctl import BUNDLED_SCHEMA_SQL

TASKS: dict[str, Callable[[int, Any], Any]] = {}


def task(function: Callable[[int, Any], Any]) -> None:
    """Register it under its name."""
    TASKS[function.__name__] = function


@task
def job(number: int, _: Any) -> None:
    talk.started(number)


@task
def chain(number: int, context: Any) -> None:
    def a() -> int:
        if talk.QUIET:
            talk.started(number)
        return number

    one = context.step("a", a)
    two = context.step("b", lambda: one)
    context.step("c", lambda: two)
    context.step("d", lambda: talk.started(number))


@task
def payload(number: int, context: Any) -> None:
    page = context.step("first", lambda: talk.first(number))
    context.step("second", lambda: talk.second(page))


TASK_OF = {"wake": "job", "drain": "job", "chain": "chain", "load": "chain"}


def set_up() -> None:
    """What `absurdctl init` does, which needs psql."""
    with psycopg.connect(talk.DSN) as connection:
        connection.execute(BUNDLED_SCHEMA_SQL)
    Absurd(talk.DSN).create_queue("default")


def work() -> None:
    """Until the end."""
    talk.ready_to_work()
    app = Absurd(talk.DSN)
    for name, function in TASKS.items():
        app.register_task(name=name)(lambda params, context, f=function: f(params["n"], context))
    app.start_worker(**talk.OPTIONS)


def enqueue() -> None:
    """Spawn tasks as the driver wishes."""
    name = TASK_OF.get(talk.ORDER["scenario"], "payload")
    with psycopg.connect(talk.DSN, autocommit=True) as connection:
        app = Absurd(connection)
        for command in talk.commands():
            if command.bulk:
                with connection.transaction():
                    for number in command.numbers:
                        app.spawn(name, {"n": number}, queue="default")
            for number in () if command.bulk else command.paced():
                app.spawn(name, {"n": number}, queue="default")


if __name__ == "__main__":
    {"setup": set_up, "work": work, "enqueue": enqueue}[talk.ROLE]()
