-- Internal, of make_queue_look(). Notes for this session that a queue held no message below `id` at this
-- snapshot. Returns the floor of the queue.
--
-- A message with a lower id may still be uncommitted. Its transaction got its number (xid) before the
-- id, because runs are inserted before messages. So `id` is only a candidate. It becomes the floor once
-- every transaction has ended that is older than a transaction of this session which began to write
-- after the snapshot. The call that finds this out sees what they left, in a snapshot of its own.
--
-- The note is a setting of the session: {file of the table, floor, candidate, xid to wait for}. While
-- that xid is not known, the fourth number is less than 1: the negative of the xid that noted the
-- candidate, or 0 if it had none. A queue that is created again or truncated has another file, and
-- starts without a floor.
create or replace function pgflow.raise_queue_floor(queue text, id bigint, snapshot pg_snapshot)
returns bigint
language plpgsql
set search_path = ''
as $$
declare
  name text := 'pgflow.floor_' || queue;
  known bigint[] := nullif(current_setting(name, true), '')::bigint[];
  file bigint := pg_relation_filenode(format('pgmq.%I', queue)::regclass)::bigint;
  writer bigint := coalesce(pg_current_xact_id_if_assigned()::text::bigint, 0);
  floor bigint;
begin
  -- The sequence was never used, or we may not read it.
  if id is null then
    return case when known[1] = file then known[2] else 0 end;
  end if;
  -- An id below the floor means that the sequence was set back.
  if known[1] is distinct from file or id < known[2] then
    known := array[file, 0, id, -writer];
  elsif known[4] < 1 then
    if writer in (0, -known[4]) then
      return known[2];
    end if;
    known[4] := writer;
  elsif pg_snapshot_xmin(snapshot)::text::bigint < known[4] then
    return known[2];
  else
    floor := least(known[3], id);
    if id <= floor and floor = known[2] then
      return known[2];
    end if;
    known := array[file, floor, id, -writer];
  end if;
  return (set_config(name, known::text, false)::bigint[])[2];
end
$$;
