-- Wakes the workers of each flow that has tasks to claim: one notification a statement and flow, and
-- no data in it, since anybody may listen. Workers turn it off where they notify by themselves.
create or replace function pgflow.notify_tasks_inserted()
returns trigger
language plpgsql
set search_path = ''
as $$
begin
  perform pg_notify(pgflow.channel('tasks', q.flow_slug), '')
  from (
    select distinct n.flow_slug from new_tasks n where n.status = 'queued' and n.started_at is null
  ) q;
  return null;
end
$$;

create or replace function pgflow.notify_tasks_requeued()
returns trigger
language plpgsql
set search_path = ''
set enable_hashjoin = on -- and no other: a plan cached for one row would compare each with each
set enable_nestloop = off
as $$
begin
  perform pg_notify(pgflow.channel('tasks', q.flow_slug), '')
  from (
    select distinct n.flow_slug
    from new_tasks n
    join old_tasks o using (run_id, step_slug, task_index)
    where n.status = 'queued' and n.started_at is null and n.queued_at <> o.queued_at
  ) q;
  return null;
end
$$;

create or replace trigger notify_tasks_inserted
after insert on pgflow.step_tasks
referencing new table as new_tasks
for each statement
when (current_setting('pgflow.notify', true) is distinct from 'off')
execute function pgflow.notify_tasks_inserted();

create or replace trigger notify_tasks_requeued
after update on pgflow.step_tasks
referencing old table as old_tasks new table as new_tasks
for each statement
when (current_setting('pgflow.notify', true) is distinct from 'off')
execute function pgflow.notify_tasks_requeued();
