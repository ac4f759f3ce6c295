-- Worker. Claims up to qty visible tasks, first those of the first flow, then those of the next. Their
-- handlers load at most max_bytes of blobs together. Returns a row for each task, and a last row that
-- sums up; see take_tasks(). Raises lock_not_available if a table of a flow is locked for 3 seconds.
-- Workers of this release call the function of a queue instead; see make_queue_claim().
--
-- The commit does not wait for the disk: if a crash loses a claim, the tasks are claimed again.
create or replace function pgflow.claim_tasks(
  flow_slugs text[],
  qty integer,
  worker_id uuid,
  max_bytes bigint -- null: no limit
)
returns setof pgflow.claim_record
language plpgsql
set search_path = ''
-- It waits for no row. The limit is for a locked table, which would keep the other flows waiting.
set lock_timeout = '3s'
as $$
declare
  -- Only a superuser could create this function with `set pgflow.notify`.
  notify text := current_setting('pgflow.notify', true);
begin
  perform set_config('pgflow.notify', 'off', true);
  perform set_config('synchronous_commit', 'off', true);
  return query
  select * from pgflow.take_tasks(flow_slugs, qty, worker_id, max_bytes);
  perform set_config('pgflow.notify', coalesce(notify, ''), true);
end
$$;
