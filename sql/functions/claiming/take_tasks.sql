-- Internal, of claim_tasks(), complete_tasks(), poll_for_tasks(). Claims up to qty visible tasks: those
-- of the first flow by age, then those of the next. The handlers of these tasks load at most max_bytes
-- of blobs together. Returns a row for each task, and a last row that sums up.
--
-- `dues` says when the next message of each flow becomes visible, or '-infinity' if the caller does not
-- know. A flow whose message is not due yet is not touched.
create or replace function pgflow.take_tasks(
  flow_slugs text[],
  dues timestamptz[],
  qty integer,
  worker_id uuid,
  max_bytes bigint default null
)
returns setof pgflow.claim_record
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  slug text;
  n integer := 0;
  message_ids bigint[];
  missing integer := qty;
  left_bytes bigint := max_bytes;
  head record;
  due timestamptz;
  summary pgflow.claim_record;
begin
  summary.lapsed := false;
  foreach slug in array flow_slugs loop
    n := n + 1;
    message_ids := '{}';
    if missing > 0 and dues[n] <= clock_timestamp() then
      message_ids := pgflow.take_messages(slug, missing, worker_id, left_bytes);
      missing := missing - cardinality(message_ids);
      return query
      select
        t, null::double precision, null::integer[], null::text[], null::text[], null::bigint,
        null::boolean
      from pgflow.task_records(slug, message_ids) t;
      dues[n] := '-infinity'; -- also if it found only messages without a task, and archived them
    end if;
    if left_bytes is not null and missing > 0 and message_ids <> '{}' and n < cardinality(dues) then
      left_bytes := left_bytes - (
        select least(sum(t.input_bytes), 9223372036854775807)::bigint from pgflow.step_tasks t
        where t.flow_slug = slug and t.message_id = any(message_ids)
      );
    end if;
    if dues[n] = '-infinity' then
      head := pgflow.next_visible(slug);
      dues[n] := head.due;
      summary.lapsed := summary.lapsed or head.reappeared;
    end if;
    due := least(due, dues[n]);
  end loop;

  if due <= clock_timestamp() then
    summary.next_bytes := pgflow.next_bytes(flow_slugs);
    -- The worker may lack the room for that task, so it must know when another message falls due.
    if summary.next_bytes > 0 then
      due := (select min(d) from unnest(pgflow.look(flow_slugs, later => true)) d);
    end if;
  end if;
  if due is not null then -- greatest() would turn null into 0
    -- A message may hold any time, and not every two times can be subtracted.
    summary.next_due := greatest(
      extract(
        epoch from least(greatest(due, clock_timestamp()), clock_timestamp() + '1 year') - clock_timestamp()
      ), 0
    )::double precision;
  end if;
  if summary.lapsed then
    summary.lapsed := exists (select from pgflow.lapsed_tasks(flow_slugs));
  end if;
  return next summary;
end
$$;
