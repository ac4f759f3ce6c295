-- Empties the states, tasks and map elements when the runs are truncated.
create or replace function pgflow.truncate_with_runs()
returns trigger
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
begin
  -- A table that the same statement truncates is empty by now, and cannot be truncated again.
  if exists (select from pgflow.step_states) then
    truncate pgflow.step_states;
  end if;
  if exists (select from pgflow.step_tasks) then
    truncate pgflow.step_tasks;
  end if;
  if exists (select from pgflow.map_elements) then
    truncate pgflow.map_elements;
  end if;
  return null;
end
$$;

create or replace trigger truncate_with_runs
after truncate on pgflow.runs
for each statement
execute function pgflow.truncate_with_runs();
