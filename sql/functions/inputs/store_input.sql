-- Client. Stores a blob of one row as the input of a run, or as an element of that input. The run must
-- start later in the same transaction. Storing the same blob again changes nothing. Raises
-- unique_violation if the run exists, and invalid_parameter_value if an argument does not fit.
create or replace function pgflow.store_input(
  id uuid,
  run_id uuid,
  kind text,
  media_type text,
  codec text,
  key_id text,
  data_key bytea,
  elements uuid[],
  raw_size bigint,
  sha256 bytea,
  preview text,
  content bytea
)
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_custom_plan -- a generic plan locks every day
as $$
#variable_conflict use_column
declare
  first uuid := pgflow.first_blob_id(run_id);
  last uuid := pgflow.last_blob_id(run_id);
begin
  perform pgflow.refuse_input(store_input.id, store_input.run_id);
  if
    num_nulls(store_input.content, store_input.raw_size, store_input.sha256) > 0
    or store_input.codec not in ('none', 'zstd')
    or (store_input.kind = 'list') <> (store_input.elements is not null)
    -- A column holds at most a gigabyte, and no zstd frame of that length holds more than this.
    or store_input.raw_size > 1::bigint << 40
  then
    raise exception 'blob % is no input', store_input.id using errcode = 'invalid_parameter_value';
  end if;
  if
    exists (
      select from unnest(store_input.elements) as e (id)
      where not e.id between first and last or e.id = store_input.id
    )
    -- A run has one input, so it has one list at most.
    or store_input.elements is not null and exists (
      select from pgflow.output_blobs b
      where
        b.id between first and last and b.run_id = store_input.run_id and b.elements is not null
        and b.id <> store_input.id
    )
  then
    raise exception 'list % has an element that is a list, or of another run', store_input.id
      using errcode = 'invalid_parameter_value';
  end if;

  insert into pgflow.output_blobs (
    id, run_id, step_slug, kind, media_type, codec, key_id, data_key, elements, raw_size, stored_size,
    sha256, preview, content
  )
  values (
    store_input.id, store_input.run_id, 'run', store_input.kind, store_input.media_type,
    store_input.codec, store_input.key_id, store_input.data_key, store_input.elements,
    store_input.raw_size, length(store_input.content), store_input.sha256, left(store_input.preview, 40),
    store_input.content
  )
  on conflict do nothing;
end
$$;
