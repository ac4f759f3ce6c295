-- Deletes the states, tasks, map elements and blobs of deleted runs, and tells workers of runs that went on. (Foreign keys would lock the run for each of
-- these rows, and prevent dropping a day of blobs.)
create or replace function pgflow.delete_with_runs()
returns trigger
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_custom_plan -- a generic plan locks every day
as $$
declare
  runs uuid[] := array(select r.run_id from old_runs r);
  run uuid;
begin
  delete from pgflow.step_tasks t where t.run_id = any(runs);
  delete from pgflow.step_states s where s.run_id = any(runs);
  delete from pgflow.map_elements e
  where e.run_id = any(array(select r.run_id from old_runs r where not r.is_plain));
  for run in select r.run_id from old_runs r where r.has_blobs loop
    delete from pgflow.output_blobs b
    where
      b.id between pgflow.first_blob_id(run) and pgflow.last_blob_id(run) and b.run_id = run;
  end loop;
  perform pg_notify(pgflow.channel('stopped', d.flow_slug), '')
  from (select distinct r.flow_slug from old_runs r where r.status = 'started') d;
  return null;
end
$$;

create or replace trigger delete_with_runs
after delete on pgflow.runs
referencing old table as old_runs
for each statement
execute function pgflow.delete_with_runs();
