-- Worker. The peers of this worker, in the ring of all by their ids: it watches the next one, which comes
-- first, or the one after it while that may be about to come back. No row if it is alone.
create or replace function pgflow.next_worker(worker_id uuid)
returns table (next_id uuid, seat bigint)
language sql stable
set search_path = ''
as $$
  select w.worker_id, w.seat from pgflow.worker_seats w
  where w.worker_id <> next_worker.worker_id
  order by w.worker_id < next_worker.worker_id, w.worker_id
$$;
