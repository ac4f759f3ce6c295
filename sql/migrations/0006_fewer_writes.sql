-- What a step writes is most of what it costs.

-- In the order of those who start runs, lest one of the two is chosen to end a deadlock.
lock table pgflow.runs, pgflow.step_states, pgflow.step_tasks in access exclusive mode;

-- What passes between the functions that count down and those that queue.
create type pgflow.started_step as (
  flow_slug text,
  run_id uuid,
  step_slug text,
  n integer -- place of its run in the call
);

create type pgflow.counted_steps as (
  completed uuid[], -- for each step that is completed, its run
  started pgflow.started_step[]
);

-- Whether tasks wait for fail_lapsed_tasks(), which is not part of a claim any more.
alter type pgflow.claim_record add attribute lapsed boolean;

drop function if exists
pgflow.complete_attempts(uuid[], text[], integer[], integer[], jsonb[], uuid[], text[]),
pgflow.complete_runs(uuid[]),
pgflow.count_down(pgflow.settled_task[], uuid[]),
pgflow.fail_runs(pgflow.settled_task[]),
pgflow.next_due(text[], boolean),
pgflow.queue_tasks(text, uuid[], text[], integer[], bigint[], uuid),
pgflow.start_steps(uuid[], integer, uuid, bigint),
pgflow.take_tasks(text[], integer, uuid, bigint);

-- Neighbours change in one transaction, so that a page has to hold each row twice to keep changes on it.
alter table pgflow.runs set (fillfactor = 50);
alter table pgflow.step_states set (fillfactor = 50);
alter table pgflow.step_tasks set (fillfactor = 50);

-- A foreign key locks the run once more for each state and each task. None is inserted but by who
-- holds the run, and the trigger delete_with_runs deletes them with it.
alter table pgflow.step_states drop constraint step_states_run_id_fkey;
alter table pgflow.step_tasks drop constraint step_tasks_run_id_fkey;
drop trigger if exists delete_blobs_of_runs on pgflow.runs;
drop function if exists pgflow.delete_blobs_of_runs();
