"""Flows in the SQL core: define them."""

from typing import Any

import orjson
from psycopg.rows import scalar_row
from psycopg.types.json import Jsonb

from pgflow_events.postgres.connection import Connection


async def define_flow(connection: Connection, definition: dict[str, Any]) -> list[str]:
    """Define a flow, or compare it with the stored one; how they differ."""
    cursor = connection.cursor(row_factory=scalar_row)
    await cursor.execute("select pgflow.define_flow(%s)", [Jsonb(definition, dumps=orjson.dumps)])
    differences: list[str] = await cursor.fetchone() or []
    return differences
