-- From now on one statement completes tasks, steps and runs, and one function for each queue archives the
-- messages of completed tasks and queues the steps that start.
drop function if exists
pgflow.complete_attempts(uuid[], text[], integer[], integer[], jsonb[], uuid[], text[]),
pgflow.count_down(pgflow.settled_task[], uuid[]),
pgflow.complete_runs(uuid[], uuid[], uuid[]),
pgflow.queue_steps(pgflow.started_step[], integer, uuid, bigint),
pgflow.queue_tasks(text, uuid[], text[], integer[], bigint[], uuid),
pgflow.settle_tasks(
  uuid[], text[], integer[], integer[], jsonb[], uuid[], text[], boolean[], integer, uuid, bigint
),
pgflow.discard_unfinished(pgflow.settled_task[]),
pgflow.make_queue_send(text);

drop type pgflow.counted_steps;
drop type pgflow.queued_task;
alter type pgflow.settled_task drop attribute retried;

-- What a call did to the runs of a flow.
create type pgflow.counted_step as (
  run_id uuid,
  step_slug text,
  place integer, -- of its first task that the call completed
  completes boolean,
  has_blobs boolean -- whether these tasks have
);

create type pgflow.advanced_flow as (
  flow_slug text,
  places integer[], -- of the tasks that the call completed
  message_ids bigint[], -- of these tasks
  retried uuid[], -- their runs, where a task took more than one attempt
  counted pgflow.counted_step[],
  started pgflow.started_step[],
  ended uuid[] -- runs; null stands for one without blobs
);

do $$
declare
  function regprocedure;
begin
  for function in
    select p.oid::regprocedure from pgflow.flows f
    join pg_catalog.pg_proc p on p.proname = format('send_%s', pgmq.format_table_name(f.flow_slug, 'q'))
    where p.pronamespace = to_regnamespace('pgflow_queues')
  loop
    execute format('drop function %s', function);
  end loop;
end
$$;
