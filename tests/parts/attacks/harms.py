"""What logins try against a run of somebody else, a case each.

`{run}` and `{blob}` are somebody else's run and its input, `{output}` and `{open}` an output"
" that is
stored and one that is being written, `{next}` an id for another blob of it. `{mine}` is a run"
" of the
attacker's that does not exist yet, `{mine_blob}` an id for a blob of it; `{day}` and"
" `{day_blob}` are
the same for a run that says it started on a day to come.
"""

STORE = """
select pgflow.store_input(
  '{id}', '{run}', '{kind}', null, 'none', null, null, {elements}, 2, sha256('[]'), null, '[]'
)
"""


def store(blob_id: str, run_id: str, elements: str = "null") -> str:
    kind = "json" if elements == "null" else "list"
    return STORE.format(id=blob_id, run=run_id, kind=kind, elements=elements).strip()


PLANT = (
    "insert into pgflow.output_blobs"
    " (id, run_id, step_slug, kind, codec, content, elements, raw_size, stored_size, sha256,"
    " expires_at)"
    " values ('{mine_blob}', '{mine}', 'run', 'list', 'none', '[null]', array['{blob}']::uuid[],"
    " 6, 6, sha256('[null]'), now() - interval '1 day')"
)
START = "select from pgflow.start_flows('f', array['1'::jsonb], array['{mine}']::uuid[]{blobs})"
SHORT = (
    "select from pgflow.start_flows('short', array[null]::jsonb[], array['{mine}']::uuid[],"
    " array['{blob}']::uuid[])"
)

# By a client: with plain statements, and with the functions that it has instead.
CLIENT_HARMS = {
    "forget by a list of its own": PLANT,
    "forget by a stored list": store("{mine_blob}", "{mine}", "array['{blob}']::uuid[]")
    + ";"
    + SHORT.replace("{blob}", "{mine_blob}"),
    "forget by a short flow": SHORT,
    "forget an output by a short flow": SHORT.replace("{blob}", "{output}"),
    "finish an open blob": "update pgflow.output_blobs set sha256 = 'mine', raw_size = 1,"
    " stored_size = 1"
    " where id = '{open}'",
    "finish an open blob by a call": "select pgflow.finish_blob('{open}', 0, 0, 0, 'mine', null)",
    "finish an open blob as an input": "select pgflow.finish_input('{open}', 0, 0, 0, 'mine',"
    " null)",
    "write into an open blob": "insert into pgflow.blob_chunks values ('{open}', 0, 'mine')",
    "write into an open blob by a call": "select pgflow.write_chunk('{open}', 0, 'mine')",
    "write into an open blob as an input": "select pgflow.write_input('{open}', 0, 'mine')",
    "take the first chunk of an id to come": "insert into pgflow.blob_chunks values ('{next}',"
    " 0, 'mine')",
    "open a blob of another's run": "select pgflow.open_input("
    "'{next}', '{run}', 'bytes', null, 'zstd', null, null, null, 100)",
    "store into another's run": store("{next}", "{run}"),
    "store under another's id": store("{next}", "{mine}") + ";" + START.replace("{blobs}", ""),
    "store over another's blob": store("{blob}", "{mine}"),
    "have another's run keep blobs no more": "update pgflow.runs set has_blobs = false"
    " where run_id = '{run}'",
    "leave a blob behind": store("{mine_blob}", "{mine}"),
    "leave a stream behind": "select pgflow.open_input("
    "'{mine_blob}', '{mine}', 'bytes', null, 'zstd', null, null, null, 100)",
    "leave a blob behind a small input": store("{mine_blob}", "{mine}")
    + ";"
    + START.replace("{blobs}", ""),
    "leave a blob behind by plain rows": "insert into pgflow.output_blobs"
    " (id, run_id, step_slug, kind, codec) values ('{mine_blob}', '{mine}', 'run', 'json', 'none')",
    "keep a day from its partition": "insert into pgflow.output_blobs"
    " (id, run_id, step_slug, kind, codec) values ('{day_blob}', '{day}', 'run', 'json', 'none')",
    "keep a day from its partition by an input": store("{day_blob}", "{day}")
    + ";select from pgflow.start_flows("
    "'f', array[null]::jsonb[], array['{day}']::uuid[], array['{day_blob}']::uuid[])",
    "keep a day from its partition by a large value": "select from pgflow.start_flows("
    "'f', array[to_jsonb(repeat('x', 9000))], array['{day}']::uuid[])",
    "keep a day from its partition by a chunk": "insert into pgflow.blob_chunks"
    " values ('{day_blob}', 0, 'mine')",
    "hold a run": "select from pgflow.runs where run_id = '{run}' for update",
    "hold a run, shared": "select from pgflow.runs where run_id = '{run}' for key share",
    "hold a blob": "select from pgflow.output_blobs where id = '{blob}' for key share",
    "hold a task": "select from pgflow.step_tasks where run_id = '{run}' for share",
    "cancel a run": "select from pgflow.cancel_runs(array['{run}'::uuid])",
}

# By a worker, which may settle tasks and write their outputs.
WORKER_HARMS = {
    "replace an input": "update pgflow.output_blobs set content = 'mine' where id = '{blob}'",
    "replace an input's key": "update pgflow.output_blobs set data_key = 'mine' where id ="
    " '{blob}'",
    "replace what an input is": "update pgflow.output_blobs set kind = 'bytes' where id = '{blob}'",
    "give an input to another run": "update pgflow.output_blobs set run_id = '{mine}' where id ="
    " '{blob}'",
    "make an output of an input": "update pgflow.output_blobs set step_slug = 'a' where id ="
    " '{blob}'",
    "delete an input": "delete from pgflow.output_blobs where id = '{blob}'",
    "delete an input by a call": "select pgflow.delete_blobs(array['{blob}']::uuid[])",
    "delete an input's chunks": "delete from pgflow.blob_chunks where blob_id = '{blob}'",
    "add an input": "insert into pgflow.output_blobs (id, run_id, step_slug, kind, codec)"
    " values ('{next}', '{run}', 'run', 'json', 'none')",
    "forget an input": "update pgflow.output_blobs set forgotten_at = now(), content = null"
    " where id = '{blob}'",
    "let an input expire": "update pgflow.output_blobs set expires_at = '2000-01-01' where id ="
    " '{blob}'",
    "delete an input by a list": "insert into pgflow.output_blobs"
    " (id, run_id, step_slug, kind, codec, content, elements, raw_size, stored_size, sha256,"
    " expires_at)"
    " values ('{mine_blob}', '{mine}', 'a', 'list', 'none', '[null]', array['{blob}']::uuid[],"
    " 6, 6, 'x', now() - interval '1 day'); select"
    " pgflow.delete_blobs(array['{mine_blob}']::uuid[])",
    "have another's run keep blobs no more": "update pgflow.runs set has_blobs = false"
    " where run_id = '{run}'",
    "change an input": "update pgflow.runs set input = '1' where run_id = '{run}'",
    "make partitions": "select pgflow.ensure_blob_days(3200)",
    "make partitions in steps": "select pgflow.ensure_blob_days(n) from unnest(array[200, 400]) n",
    "keep a day from its partition by a chunk": "insert into pgflow.blob_chunks"
    " values ('{day_blob}', 0, 'mine')",
    "cancel a run": "select from pgflow.cancel_runs(array['{run}'::uuid])",
}
