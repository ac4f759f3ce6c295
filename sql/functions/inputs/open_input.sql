-- Client. Begins a blob in chunks that will be the input of a run. The run must start later in the same
-- transaction. Raises unique_violation if the run exists, and invalid_parameter_value if the id or
-- another argument does not fit.
create or replace function pgflow.open_input(
  id uuid,
  run_id uuid,
  kind text,
  media_type text,
  codec text,
  key_id text,
  data_key bytea,
  store text,
  chunk_size integer
)
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform pgflow.refuse_input(open_input.id, open_input.run_id);
  if
    open_input.codec not in ('none', 'zstd') or open_input.kind = 'list'
    or (open_input.chunk_size between 1 and 67108864) is not true
  then
    raise exception 'blob % is no input', open_input.id using errcode = 'invalid_parameter_value';
  end if;
  insert into pgflow.output_blobs (
    id, run_id, step_slug, kind, media_type, codec, key_id, data_key, store, chunk_size
  )
  values (
    open_input.id, open_input.run_id, 'run', open_input.kind, open_input.media_type, open_input.codec,
    open_input.key_id, open_input.data_key, open_input.store, open_input.chunk_size
  );
end
$$;
