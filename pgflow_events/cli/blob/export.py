"""`pgflow-events blob export`."""

from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import click
import orjson
import trio

from pgflow_events.cli.blob.reading import open_blobs
from pgflow_events.cli.command import Command, Failure, an_id, json_option, print_json, say
from pgflow_events.cli.database import database, dsn_option
from pgflow_events.cli.stores import (
    key_ring,
    keys_option,
    object_store,
    objects_option,
    sealed_only_option,
)
from pgflow_events.core.identify import refuse_run
from pgflow_events.core.summaries import summarize_runs
from pgflow_events.texts import counted
from pgflow_events.upkeep.exports import MANIFEST, Exported, export_values, open_privately


@click.command(
    cls=Command,
    examples=("pgflow-events blob export 0199f3a4-7f5e-7cc1-8a52-3f0c2d1b9e6a ./run",),
)
@click.argument("run_id", type=an_id, metavar="RUN")
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR")
@keys_option
@sealed_only_option
@objects_option
@dsn_option
@json_option
def export(
    *,
    run_id: UUID,
    folder: Path,
    keys: Path | None,
    sealed_only: datetime | None,
    objects: str | None,
    dsn: str | None,
    as_json: bool,
) -> None:
    """Write the values of a run into files.

    The command creates DIR, or takes an empty folder of your own. Only you can read the files.

    It writes the input as run.EXT, and each output as STEP.EXT. A list that is stored by its
    elements, or the output of a map, becomes STEP.0.EXT and so on. EXT follows the media type. The
    last file, manifest.json, describes each file. The output of a step named manifest is
    manifest-0.EXT.

    A value that cannot be read has no file, and the exit code is 1. A value that was deleted
    because of keep_output has no file either, but is not an error.
    """
    options: dict[str, Any] = {
        "keys": key_ring(keys),
        "objects": object_store(objects),
        "sealed_only": sealed_only,
    }
    try:
        with database(dsn) as found:
            manifest = trio.run(partial(write, **options), found, run_id, folder)
    except OSError as error:
        raise Failure(f"{error.filename or folder}: {error.strerror}") from error
    values: list[Exported] = manifest["values"]
    if as_json:
        print_json(manifest)
    else:
        written = sum(value.file is not None for value in values)
        say(f"{counted(written, 'value')} in {folder}")
    if lost := [value.error for value in values if value.error and not value.forgotten]:
        raise Failure(f"{counted(len(lost), 'value')} could not be read; the first: {lost[0]}")


async def write(dsn: str, run_id: UUID, folder: Path, **options: Any) -> dict[str, Any]:
    """Write all files, and return the manifest."""
    async with open_blobs(dsn, **options) as (connection, blobs):
        runs = await summarize_runs(connection, run_id=run_id)
        if not runs:
            raise await refuse_run(connection, run_id)
        values = await export_values(connection, blobs, run_id, folder)
    run = runs[0]
    manifest = {
        "run_id": run.run_id,
        "flow_slug": run.flow_slug,
        "status": run.status,
        "started_at": run.started_at,
        "ended_at": run.ended_at,
        "values": values,
    }
    text = orjson.dumps(manifest, option=orjson.OPT_INDENT_2)
    path = folder / f"{MANIFEST}.json"
    async with await trio.open_file(path, "xb", opener=open_privately) as file:
        await file.write(text + b"\n")
    return manifest
