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
  ids bigint[];
begin
  execute format(
    $sql$
      select array_agg(m.msg_id) from (
        select msg_id from pgmq.%I where msg_id >= $2 and vt <= clock_timestamp()
        order by msg_id limit $1 for update skip locked
      ) m
    $sql$, queue
  ) into ids using qty, pgflow.queue_floor(queue);
  return ids;
end
$$;
