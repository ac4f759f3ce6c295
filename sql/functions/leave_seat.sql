-- Takes leave of the peers. What the worker has claimed and not settled can be claimed at once.
create or replace function pgflow.leave_seat(worker_id uuid)
returns void
language plpgsql
set search_path = ''
as $$
#variable_conflict use_column
declare
  slugs text[];
  freed text[];
begin
  delete from pgflow.worker_seats w where w.worker_id = leave_seat.worker_id
  returning w.flow_slugs into slugs;
  if not found then
    return;
  end if;
  freed := pgflow.free_tasks(leave_seat.worker_id, slugs);
  perform pg_notify(pgflow.channel('tasks', slug), '') from unnest(freed) as f (slug);
  perform pg_notify(pgflow.channel('workers', ''), '');
end
$$;
