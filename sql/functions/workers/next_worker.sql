-- Worker. Returns the peers of this worker, in the order of the ring that all workers form by their ids.
-- No row if it is alone.
--
-- It watches the first one, or the second one while the first may be about to come back.
create or replace function pgflow.next_worker(worker_id uuid)
returns table (next_id uuid, seat bigint)
language sql stable
set search_path = ''
as $$
  select w.worker_id, w.seat from pgflow.worker_seats w
  where w.worker_id <> next_worker.worker_id
  order by w.worker_id < next_worker.worker_id, w.worker_id
$$;
