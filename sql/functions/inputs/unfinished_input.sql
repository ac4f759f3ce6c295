-- Internal, of finish_input(), write_input(). The input of this id that open_input() began, for a run that
-- does not exist yet. Raises if it is none: that of somebody else is seen once it is committed, with its
-- run.
create or replace function pgflow.unfinished_input(
  id uuid,
  out store text,
  out chunk_size integer
)
language plpgsql stable
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_custom_plan -- a plan for any id locks all days
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
