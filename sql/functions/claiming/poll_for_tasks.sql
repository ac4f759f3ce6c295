-- Public. Claims up to qty tasks of a flow; waits for the first one up to max_poll_seconds. Each look is a
-- statement of its own, so that it sees what arrived while the call waited. The seed's parameter vt has no
-- effect: a message is hidden for its step's timeout and 2 seconds.
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
set standard_conforming_strings = on -- pgmq's functions are written for it
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
    from pgflow.take_tasks(array[queue_name], array['-infinity'::timestamptz], qty, null) t
    where not t.task is null;
    -- Who has failed a run must not wait with it in hand.
    exit when found or failed > 0 or clock_timestamp() >= give_up;
    perform pg_sleep(poll_interval_ms / 1000.0);
  end loop;
end
$$;

comment on function pgflow.poll_for_tasks is
'Claims up to qty tasks of a flow, and waits up to max_poll_seconds for the first. Each is hidden for the '
'timeout of its step and 2 seconds; vt has no effect. Commit it by itself.';
