-- Public. Claims up to `qty` tasks of a flow, and returns a row for each. If none is visible, it waits
-- up to `max_poll_seconds` for the first one, and looks every `poll_interval_ms` milliseconds. Each look
-- is a statement of its own, so that it sees tasks that arrived meanwhile. A claim hides the task for
-- the timeout of its step and 2 seconds. The parameter `vt` has no effect: it is there because pgflow
-- has it. Commit a claim by itself. A transaction that claims and then settles can end in a deadlock.
--
-- Raises:
--   P0002 no_data_found: no flow has this slug.
--
-- Example:
--   select step_slug, input, attempts_count, timeout from pgflow.poll_for_tasks('greet', 0, 10);
create or replace function pgflow.poll_for_tasks(
  queue_name text,
  vt integer,
  qty integer,
  max_poll_seconds integer default 5,
  poll_interval_ms integer default 100
)
returns setof pgflow.step_task_record
language plpgsql
set search_path = ''
set standard_conforming_strings = on -- pgmq's functions rely on it
as $$
declare
  failed integer;
  give_up timestamptz := clock_timestamp() + make_interval(secs => coalesce(max_poll_seconds, 0));
begin
  if not exists (select from pgflow.flows f where f.flow_slug = queue_name) then
    raise exception 'unknown flow "%"', queue_name using errcode = 'no_data_found';
  end if;
  loop
    failed := pgflow.fail_lapsed_tasks(array[queue_name]);
    return query
    select (t.task).*
    from pgflow.take_tasks(array[queue_name], qty, null) t
    where not t.task is null;
    -- If we have failed a run, we hold its lock and must not wait.
    exit when found or failed > 0 or clock_timestamp() >= give_up;
    perform pg_sleep(poll_interval_ms / 1000.0);
  end loop;
end
$$;

comment on function pgflow.poll_for_tasks is
'Claims up to qty tasks of a flow, and waits up to max_poll_seconds for the first one. A claim hides a '
'task for the timeout of its step and 2 seconds; vt has no effect. Commit a claim by itself.';
