-- Internal, of lapsed_tasks(), next_bytes(), next_visible(), take_messages(), unreadable_tasks(). An id
-- below which this queue holds no message: to begin there spares a claim the entries of all that are gone,
-- which stay in the index for as long as any transaction of the database may still see them. See
-- raise_queue_floor().
create or replace function pgflow.queue_floor(queue text)
returns bigint
language plpgsql stable
set search_path = ''
as $$
declare
  known bigint[] := nullif(current_setting('pgflow.floor_' || queue, true), '')::bigint[];
begin
  return case
    when known[1] = pg_relation_filenode(format('pgmq.%I', queue)::regclass)::bigint then known[2] else 0
  end;
end
$$;
