-- Wakes the workers of each flow that has tasks to claim. Each statement sends one notification a flow,
-- without any data, because every role may listen. Workers turn these triggers off in calls that notify
-- by themselves.
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
set enable_hashjoin = on -- and nested loops off: one cached for a single row compares every pair
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
