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
  max_bytes bigint, -- null: no limit
  facts jsonb[] default null -- of outputs that SQL cannot read: see note_facts()
)
returns setof pgflow.claim_record
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  notify text := current_setting('pgflow.notify', true);
  settled pgflow.claim_record;
begin
  perform set_config('pgflow.notify', 'off', true);
  for settled in select * from pgflow.settle_tasks(
    run_ids, step_slugs, task_indexes, attempts, outputs, output_blob_ids, error_messages, permanent,
    qty, worker_id, max_bytes, facts)
  loop
    exit when settled.task is null; -- the last row
    return next settled;
    qty := qty - 1;
    max_bytes := max_bytes - (settled.task).input_bytes;
  end loop;

  if flow_slugs <> '{}' and qty > 0 then
    return query
    select
      t.task, t.next_due,
      case when t.task is null then settled.refused end,
      case when t.task is null then settled.owed_tasks end,
      case when t.task is null then settled.owed_runs end,
      t.next_bytes, t.lapsed
    from pgflow.take_tasks(flow_slugs, qty, worker_id, max_bytes) t;
  else
    settled.next_due := case when flow_slugs <> '{}' then 0::double precision end;
    settled.lapsed := false;
    return next settled;
  end if;
  perform set_config('pgflow.notify', coalesce(notify, ''), true);
end
$$;
