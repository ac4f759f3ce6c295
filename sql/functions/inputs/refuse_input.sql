-- Internal, of open_input(), store_input(). Checks that a blob of this id may be the input of this run.
-- Raises unique_violation if the run exists already, and invalid_parameter_value if the id does not
-- begin with the first half of the run's.
create or replace function pgflow.refuse_input(id uuid, run_id uuid)
returns void
language plpgsql stable
set search_path = ''
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  if exists (select from pgflow.runs r where r.run_id = refuse_input.run_id) then
    raise exception 'run % exists: its input cannot be written any more', refuse_input.run_id
      using errcode = 'unique_violation';
  elsif
    (refuse_input.id between
    pgflow.first_blob_id(refuse_input.run_id) and pgflow.last_blob_id(refuse_input.run_id)) is not true
  then
    raise exception 'blob % cannot be of run %: its id must begin with the first half of the run''s',
      refuse_input.id, refuse_input.run_id
      using errcode = 'invalid_parameter_value';
  end if;
end
$$;
