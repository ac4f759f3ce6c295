"""Pages of a table that are broken, as on a disk that fails: who needs them fails, and no other."""

import random
from collections.abc import Iterator

import psycopg
import pytest

from pgflow_events import Flow, RunFailed, Settings, Worker, connect
from pgflow_events.core.flows import define_flow
from pgflow_events.postgres.connection import Connection

from ...conftest import migrated_database
from ...parts.servers.own_server import OwnServer, own_folder, running

MIB = 1024 * 1024


@pytest.fixture
def server() -> Iterator[OwnServer]:
    with own_folder() as folder:
        server = OwnServer(folder)
        server.create("--no-data-checksums")
        with running(server):
            yield server


@pytest.fixture
def database(server: OwnServer) -> Iterator[str]:
    with migrated_database(server.dsn) as made:
        yield made


def damage(server: OwnServer, database: str, table: str) -> None:
    """Overwrite the pages in which the long values of a table, or of its only partition, are."""
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("checkpoint")
        ((path,),) = connection.execute(
            "select pg_relation_filepath(c.reltoastrelid)"
            " from pg_class c where c.reltoastrelid <> 0"
            " and c.oid in (select %s::regclass union select relid from pg_partition_tree(%s))"
            " and pg_relation_size(c.reltoastrelid) > 0",
            [table, table],
        ).fetchall()
    server.stop()
    file = server.folder / "data" / path
    file.write_bytes(b"\x55" * file.stat().st_size)
    server.start()


# An input stands in the row of its run, in that of a blob, or in chunks.
@pytest.mark.parametrize(
    "case",
    [
        (MIB, "pgflow.runs", "the input cannot be read: invalid page in block"),
        (3 * MIB, "pgflow.output_blobs", "the input cannot be loaded: invalid page in block"),
        (6 * MIB, "pgflow.blob_chunks", "DataCorrupted: invalid page in block"),
    ],
    ids=["in its row", "in a blob", "in chunks"],
)
async def test_a_task_whose_input_is_on_a_broken_page_fails_and_no_other(
    server, database, nursery, case
):
    size, table, said = case
    flow, other = Flow("flow", base_delay=0, max_attempts=2, blob_threshold=2 * MIB), Flow("other")
    flow.step(flow.input, slug="step")(len)
    other.step(other.input, slug="step")(lambda n: n)
    async with await Connection.connect(database) as connection:
        for each in (flow, other):
            await define_flow(connection, each.definition())
    letters = random.Random(1).choices([chr(n) for n in range(0x4E00, 0x9E00)], k=size // 3)
    async with connect(database) as client:
        run = await client.start(flow, "".join(letters))
    damage(server, database, table)
    for _ in range(2):  # the second is one that is started again, and meets what the first did
        await nursery.start(Worker([flow, other], database, settings=SOON).run)
    async with connect(database) as client:
        for n in range(3):
            assert await (await client.start(other, n)).result() == {"step": n}
        with pytest.raises(RunFailed, match=said):
            await (await client.find(run.id)).result()


SOON = Settings(check_interval=0.2)
