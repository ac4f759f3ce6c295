-- Locks up to qty visible messages of a queue that nobody else holds, lowest ids first; their ids, or
-- null if there are none.
create or replace function pgflow.lock_visible(queue text, qty integer)
returns bigint[]
language plpgsql
set search_path = ''
set enable_seqscan = off
set enable_bitmapscan = off -- the head of a queue is read in order, and no more of it
set enable_sort = off
as $$
declare
  id bigint;
  ids bigint[];
begin
  -- A loop, since a query that aggregates is planned for twice as long.
  for id in
    execute format(
      'select msg_id from pgmq.%I where msg_id >= $1 and vt <= clock_timestamp()'
      ' order by msg_id limit $2 for update skip locked', queue
    ) using pgflow.queue_floor(queue), qty
  loop
    ids := ids || id;
  end loop;
  return ids;
end
$$;
