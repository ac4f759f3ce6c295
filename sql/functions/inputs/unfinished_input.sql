-- Internal, of finish_input(), write_input(). Returns where the chunks of an unfinished input are kept,
-- and their size. Raises invalid_parameter_value unless open_input() began a blob of this id for a run
-- that does not exist yet.
--
-- An input of another session becomes visible when it commits. Its run is there by then, so the input is
-- refused.
create or replace function pgflow.unfinished_input(
  id uuid,
  out store text,
  out chunk_size integer
)
language plpgsql stable
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_custom_plan -- a generic plan locks every day
as $$
#variable_conflict use_column
begin
  select b.store, b.chunk_size into unfinished_input.store, unfinished_input.chunk_size
  from pgflow.output_blobs b
  where
    b.id = unfinished_input.id and b.step_slug = 'run' and b.sha256 is null and b.chunk_size is not null
    and not exists (select from pgflow.runs r where r.run_id = b.run_id);
  if not found then
    raise exception 'blob % is no input that is being written', unfinished_input.id
      using errcode = 'invalid_parameter_value';
  end if;
end
$$;
