-- Internal, of next_visible(). Notes for this session that at this snapshot a queue held no message below
-- `id`. Returns its floor.
--
-- One with a lower id may still be on its way, in a transaction that had not committed. It took its id
-- after its transaction's number (a run is inserted before its messages). So `id` is only a candidate;
-- it counts once all transactions have ended that have lower numbers than one of ours that began to
-- write after that snapshot. What they left is seen then, at the snapshot of that call.
--
-- The note is a setting of the session: {file of the table, floor, candidate, number to wait for; less
-- than 1 until it is known: the number of the transaction that noted the candidate}. A queue that is
-- made anew or emptied has another file.
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
  -- The sequence was never used, or is not ours to read.
  if id is null then
    return case when known[1] = file then known[2] else 0 end;
  end if;
  -- Below its floor a queue has no ids but those of a sequence that was set back.
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
