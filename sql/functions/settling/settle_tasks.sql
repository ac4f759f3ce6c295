-- Internal, of complete_task(), complete_tasks(), fail_lapsed_tasks(), fail_task(). Settles a set of
-- tasks in one transaction: each task is completed with its output, or failed with its error message and
-- perhaps queued again. Starts the steps that become ready. The first `claims` of their tasks are handed
-- over to worker_id, as long as their handlers load at most max_bytes of blobs together.
--
-- A task is settled if it is still queued, its run goes on, and `attempts` names its current attempt
-- (null: any). Otherwise its place in the arrays is in `refused`, unless the same attempt completed it
-- before: a caller whose answer was lost may send it again.
--
-- Locks: runs in the order of their ids, then the rows that belong to them. Claims take messages and
-- tasks without ever waiting for a lock. (A transaction that claims and then settles takes these locks
-- in the opposite order and may become a deadlock victim: commit a claim on its own.)
--
-- Tasks and states are looked up one by one, which `limit 1` ensures, and once locked they are updated
-- by their addresses (ctid). A join would be planned to read the whole table if statistics were taken
-- while the table was small.
create or replace function pgflow.settle_tasks(
  run_ids uuid[],
  step_slugs text[],
  task_indexes integer[],
  attempts integer[],
  outputs jsonb[],
  output_blob_ids uuid[],
  error_messages text[],
  permanent boolean[],
  claims integer default 0,
  worker_id uuid default null,
  max_bytes bigint default null,
  out refused integer[],
  out queued pgflow.queued_task[],
  out owed_flows text[], -- flows with tasks that are queued again
  out ended_flows text[] -- flows with runs that ended
)
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  settled pgflow.settled_task[];
  failing uuid[] := array[]::uuid[];
  counted pgflow.counted_steps;
  with_blobs uuid[] := array[]::uuid[];
begin
  owed_flows := '{}';
  perform from pgflow.runs r where r.run_id = any(run_ids) order by r.run_id for no key update;
  -- A claim may be raising attempts just now. A caller that names no attempt means the raised one, so
  -- wait for the claim.
  if array_position(attempts, null) is not null then
    perform from unnest(run_ids, step_slugs, task_indexes) as i (run_id, step_slug, task_index)
    cross join lateral (
      select from pgflow.step_tasks t
      where t.run_id = i.run_id and t.step_slug = i.step_slug and t.task_index = i.task_index
      limit 1 for no key update
    ) t;
  end if;

  -- Assignments where possible: calling a function from a query costs as much as a look-up.
  settled := pgflow.complete_attempts(
    run_ids, step_slugs, task_indexes, attempts, outputs, output_blob_ids, error_messages
  );
  if array_remove(error_messages, null) <> '{}' then
    settled := settled || array(select t from pgflow.fail_attempts(
      run_ids, step_slugs, task_indexes, attempts, error_messages, permanent) t);
    failing := array(select distinct t.run_id from unnest(settled) t where t.status = 'failed');
    owed_flows := array(select distinct t.flow_slug from unnest(settled) t where t.status = 'queued');
  end if;
  counted := pgflow.count_down(settled, failing);
  if array_remove(output_blob_ids, null) <> '{}' then
    with_blobs := array(
      select i.run_id from unnest(run_ids, output_blob_ids) as i (run_id, blob_id)
      where i.blob_id is not null
    );
  end if;
  ended_flows := pgflow.complete_runs(run_ids, counted.completed, with_blobs);
  if failing <> '{}' then
    ended_flows := ended_flows || array(select pgflow.fail_runs(failing, settled));
  end if;
  perform pgflow.settle_messages(settled);
  if 1 < any(attempts) is not false or array_remove(error_messages, null) <> '{}' then
    perform pgflow.discard_unfinished(settled);
  end if;
  queued := pgflow.queue_steps(counted.started, claims, worker_id, max_bytes);

  if cardinality(settled) < cardinality(run_ids) then
    refused := array(
      select n from generate_subscripts(run_ids, 1) n except select s.n from unnest(settled) s
    );
    refused := pgflow.confirm_refusals(
      refused, run_ids, step_slugs, task_indexes, attempts, output_blob_ids
    );
  end if;
end
$$;
