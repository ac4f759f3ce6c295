-- Internal, of complete_open_task(), complete_tasks(), fail_lapsed_tasks(), fail_task(). Settles a set of
-- tasks in one transaction: each task is completed with its output, or failed with its error message and
-- perhaps queued again. Starts the steps that become ready. The first `claims` of their tasks are handed over
-- to worker_id, as long as their handlers load at most max_bytes of blobs together. Returns a row for each of
-- these, and a last row with `refused`, `owed_tasks` and `owed_runs`.
--
-- A task is settled if it is still queued, its run goes on, and `attempts` names its current attempt
-- (null: any). Otherwise its place in the arrays is in `refused`, unless the same attempt completed it
-- before: a caller whose answer was lost may send it again.
--
-- Locks: runs in the order of their ids, then the rows that belong to them. Claims take messages and
-- tasks without ever waiting for a lock. (A transaction that claims and then settles takes these locks
-- in the opposite order and may become a deadlock victim: commit a claim on its own.)
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
  facts jsonb[] default null
)
returns setof pgflow.claim_record
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  failed pgflow.settled_task[];
  failing uuid[] := array[]::uuid[];
  flow pgflow.advanced_flow;
  queue text;
  claimed pgflow.claim_record;
  handed_over integer;
  settled integer[] := array[]::integer[]; -- places in the call
  unsettled uuid[] := array[]::uuid[];
  summary pgflow.claim_record;
begin
  summary.owed_tasks := array[]::text[];
  summary.owed_runs := array[]::text[];
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

  if array_remove(error_messages, null) <> '{}' then
    failed := array(select t from pgflow.fail_attempts(
      run_ids, step_slugs, task_indexes, attempts, error_messages, permanent) t);
    settled := array(select t.n from unnest(failed) t);
    if exists (select from unnest(failed) t where t.status = 'failed') then
      failing := pgflow.excuse_tasks(failed);
      unsettled := array(
        select distinct t.run_id from unnest(failed) t
        where t.status = 'failed' and t.run_id <> all(failing)
      );
    end if;
    summary.owed_tasks := array(
      select distinct t.flow_slug from unnest(failed) t where t.status = 'queued'
    );
    perform pgflow.settle_messages(failed);
  end if;

  if facts is not null then
    perform pgflow.note_facts(run_ids, step_slugs, facts);
  end if;

  -- An assignment where possible: calling a function from a query costs as much as a look-up.
  foreach flow in array pgflow.advance_runs(
    run_ids, step_slugs, task_indexes, attempts, outputs, output_blob_ids, error_messages, failing)
  loop
    settled := settled || flow.places;
    if flow.retried is not null then
      perform pgflow.discard_unfinished(flow.retried);
    end if;
    if flow.ended is not null then
      summary.owed_runs := summary.owed_runs || flow.flow_slug;
      if array_remove(flow.ended, null) <> '{}' then
        perform pgflow.expire_blobs(array_remove(flow.ended, null));
      end if;
    end if;

    if flow.unsettled is not null then
      unsettled := unsettled || flow.unsettled;
    end if;

    queue := pgmq.format_table_name(flow.flow_slug, 'q');
    if flow.started is null then
      execute format('select pgflow_queues.%I($1)', 'archive_' || queue) using flow.message_ids;
      continue;
    end if;
    handed_over := 0;
    for claimed in
      execute format('select * from pgflow_queues.%I($1, $2, $3, $4, $5)', 'advance_' || queue)
      using flow.message_ids, flow.started, claims, worker_id, max_bytes
    loop
      return next claimed;
      handed_over := handed_over + 1;
      max_bytes := max_bytes - (claimed.task).input_bytes;
    end loop;
    claims := claims - handed_over;
    if handed_over < cardinality(flow.started) then
      summary.owed_tasks := summary.owed_tasks || flow.flow_slug;
    end if;
  end loop;

  if unsettled <> '{}' then
    perform pgflow.settle_run(r) from (select distinct u from unnest(unsettled) u) as d (r);
    -- Most of them have queued tasks. One notification too many does no harm.
    summary.owed_tasks := summary.owed_tasks || array(
      select r.flow_slug from pgflow.runs r where r.run_id = any(unsettled) and r.status = 'started'
    );
    summary.owed_runs := summary.owed_runs || array(
      select r.flow_slug from pgflow.runs r where r.run_id = any(unsettled) and r.status <> 'started'
    );
  end if;

  if failed is not null then
    if failing <> '{}' then
      summary.owed_runs := summary.owed_runs || array(select pgflow.fail_runs(failing, failed));
    end if;
    perform pgflow.discard_unfinished(array(select t.run_id from unnest(failed) t));
  end if;

  if cardinality(settled) < cardinality(run_ids) then
    summary.refused := array(
      select n from generate_subscripts(run_ids, 1) n except select s from unnest(settled) s
    );
    summary.refused := pgflow.confirm_refusals(
      summary.refused, run_ids, step_slugs, task_indexes, attempts, output_blob_ids
    );
  end if;
  return next summary;
end
$$;
