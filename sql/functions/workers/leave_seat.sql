-- Worker. Says that a worker leaves: removes it from its peers, and gives back what it has claimed and
-- not settled, as if it had never been claimed.
--
-- The worker has given back the tasks that it knows of by release_tasks(). What is left comes from a
-- claim whose answer it did not wait for. Notifications of a commit that it did not wait for may be
-- owed, so they are sent.
create or replace function pgflow.leave_seat(worker_id uuid)
returns void
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
  slugs text[];
begin
  delete from pgflow.worker_seats w where w.worker_id = leave_seat.worker_id
  returning w.flow_slugs into slugs;
  if not found then
    return;
  end if;
  -- Another worker may have written anything into it.
  slugs := array(select f.flow_slug from pgflow.flows f where f.flow_slug = any(slugs));
  perform pgflow.release_tasks(
    array_agg(t.run_id), array_agg(t.step_slug), array_agg(t.task_index), array_agg(t.attempts_count),
    leave_seat.worker_id
  )
  from pgflow.worker_tasks(leave_seat.worker_id, slugs) t
  having count(*) > 0;
  perform pgflow.notify_owed(slugs, slugs);
  perform pg_notify(pgflow.channel('workers', ''), '');
end
$$;
