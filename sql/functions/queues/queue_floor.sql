-- Internal, of lapsed_tasks(), make_queue_claim(), make_queue_look(), next_bytes(),
-- requeue_stalled_tasks_of(), unreadable_tasks(). Returns the floor of a queue: an id below which it holds no
-- message. raise_queue_floor() says how the floor is found.
--
-- Messages that are gone keep their index entries as long as any transaction of the database may see
-- them. A claim that begins at the floor does not read these entries.
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
