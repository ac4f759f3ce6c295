-- Steps that have just been started pass between the functions that count down and those that queue.

create type pgflow.started_step as (
  flow_slug text,
  run_id uuid,
  step_slug text,
  n integer -- place of its run in the call
);

drop function if exists
pgflow.complete_runs(uuid[]),
pgflow.count_down(pgflow.settled_task[], uuid[]),
pgflow.start_steps(uuid[], integer, uuid, bigint);
