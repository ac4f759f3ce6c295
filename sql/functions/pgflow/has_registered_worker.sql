-- Internal, of task_standing(). Returns whether a worker of pgflow has registered for the queue of a
-- flow.
create or replace function pgflow.has_registered_worker(flow_slug text)
returns boolean
language plpgsql stable
set search_path = ''
set enable_seqscan = on -- the table is small; the caller has turned these scans off
as $$
begin
  return exists (
    select from pgflow.workers w where lower(w.queue_name) = lower(has_registered_worker.flow_slug)
  );
end
$$;
