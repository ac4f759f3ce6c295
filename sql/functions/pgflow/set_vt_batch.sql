-- Public, as in pgflow. Makes messages visible again `vt_offsets` seconds from now, each message after its
-- own time. Returns the messages that it found.
--
-- Raises:
--   P0001 raise_exception: the arrays have different lengths.
--   42P01 undefined_table: there is no such queue.
--
-- Example:
--   select msg_id, vt > now() as hidden
--   from pgflow.set_vt_batch('greet', array(select min(msg_id) from pgmq.q_greet), array[30]);
create or replace function pgflow.set_vt_batch(queue_name text, msg_ids bigint[], vt_offsets integer[])
returns table (
  msg_id bigint,
  read_ct integer,
  enqueued_at timestamptz,
  vt timestamptz,
  message jsonb,
  headers jsonb
)
language plpgsql
set search_path = ''
as $$
begin
  if coalesce(cardinality(msg_ids), 0) = 0 or coalesce(cardinality(vt_offsets), 0) = 0 then
    return;
  end if;
  if cardinality(msg_ids) <> cardinality(vt_offsets) then
    raise exception 'msg_ids length (%) must equal vt_offsets length (%)',
      cardinality(msg_ids), cardinality(vt_offsets);
  end if;
  for msg_id, read_ct, enqueued_at, vt, message, headers in execute format(
    $sql$
      update pgmq.%I as q set vt = clock_timestamp() + make_interval(secs => i.seconds)
      from unnest($1, $2) as i (msg_id, seconds)
      where q.msg_id = i.msg_id
      returning q.msg_id, q.read_ct, q.enqueued_at, q.vt, q.message, to_jsonb(q) -> 'headers'
    $sql$, pgmq.format_table_name(queue_name, 'q')
  ) using msg_ids, vt_offsets
  loop
    return next;
  end loop;
end
$$;

comment on function pgflow.set_vt_batch is
'Makes messages visible again vt_offsets seconds from now, each after its own time, and returns those it '
'found. Raises if the arrays have different lengths, or if there is no such queue.';
