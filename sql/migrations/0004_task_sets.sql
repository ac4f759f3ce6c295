-- Rows that pass between the functions that settle and queue tasks by the set.

create type pgflow.settled_task as (
  n integer, -- its place in the call, from 1
  flow_slug text,
  run_id uuid,
  step_slug text,
  message_id bigint,
  status text, -- what it is now: 'completed', 'failed', or 'queued' for another attempt
  delay integer -- seconds until that attempt
);

create type pgflow.queued_task as (
  flow_slug text,
  message_id bigint,
  claimed boolean -- handed over to the worker whose call queued it
);

-- What a worker's call returns: a row for each claimed task, then one row without a task that sums up.
create type pgflow.claim_record as (
  task pgflow.step_task_record,
  next_due double precision, -- seconds until the next message becomes visible; null: there is none
  refused integer[], -- places of the tasks that another attempt owns by now
  owed_tasks text[], -- flows whose workers are still to be woken
  owed_runs text[] -- flows with runs that ended
);
