-- Worker. Settles a set of tasks (see settle_tasks()) and claims up to qty others, all in one commit.
-- Tasks that became ready by it are claimed first. Returns a row for each claimed task, and a last row
-- that sums up (see take_tasks()) and says which tasks were refused and which notifications are owed.
--
-- This commit sends no notification: a NOTIFY locks the whole server while the commit waits for the
-- disk. The worker sends what is owed by notify_owed() right after it.
create or replace function pgflow.complete_tasks(
  run_ids uuid[],
  step_slugs text[],
  task_indexes integer[],
  attempts integer[],
  outputs jsonb[],
  output_blob_ids uuid[],
  error_messages text[],
  permanent boolean[],
  flow_slugs text[],
  qty integer,
  worker_id uuid,
  max_bytes bigint -- null: no limit
)
returns setof pgflow.claim_record
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  notify text := current_setting('pgflow.notify', true);
  settled record;
  handed_over integer := 0;
  handed_bytes bigint := 0::bigint;
  owed_flows text[]; -- flows with queued tasks that were not handed over
begin
  perform set_config('pgflow.notify', 'off', true);
  settled := pgflow.settle_tasks(
    run_ids, step_slugs, task_indexes, attempts, outputs, output_blob_ids, error_messages, permanent,
    qty, worker_id, max_bytes
  );

  owed_flows := settled.owed_flows;
  if settled.queued <> '{}' then
    return query
    select
      t, null::double precision, null::integer[], null::text[], null::text[], null::bigint,
      null::boolean
    from (
      select q.flow_slug, array_agg(q.message_id) as message_ids from unnest(settled.queued) q
      where q.claimed group by q.flow_slug
    ) q
    cross join pgflow.task_records(q.flow_slug, q.message_ids) t;

    select
      count(*) filter (where q.claimed)::integer,
      least(coalesce(sum(q.input_bytes) filter (where q.claimed), 0), 9223372036854775807)::bigint,
      owed_flows || array_agg(distinct q.flow_slug) filter (where not q.claimed)
    into handed_over, handed_bytes, owed_flows
    from unnest(settled.queued) q;
  end if;

  if flow_slugs <> '{}' and qty > handed_over then
    return query
    select
      t.task, t.next_due,
      case when t.task is null then settled.refused end,
      case when t.task is null then owed_flows end,
      case when t.task is null then settled.ended_flows end,
      t.next_bytes, t.lapsed
    from pgflow.take_tasks(flow_slugs, qty - handed_over, worker_id, max_bytes - handed_bytes) t;
  else
    return query
    select
      null::pgflow.step_task_record, case when flow_slugs <> '{}' then 0::double precision end,
      settled.refused, owed_flows, settled.ended_flows, null::bigint, false;
  end if;
  perform set_config('pgflow.notify', coalesce(notify, ''), true);
end
$$;
