-- Internal, of claim_tasks(), complete_tasks(), poll_for_tasks(). Claims up to qty visible tasks: those
-- of the first flow by age, then those of the next. The handlers of these tasks load at most max_bytes
-- of blobs together. Returns a row for each task, and a last row that sums up; make_queue_claim() says
-- what it tells.
--
-- It looks at no further flow once it has qty tasks, and says that the others are due.
create or replace function pgflow.take_tasks(
  flow_slugs text[],
  qty integer,
  worker_id uuid,
  max_bytes bigint default null
)
returns setof pgflow.claim_record
language plpgsql
set search_path = ''
as $$
declare
  slug text;
  queue text;
  missing integer := qty;
  left_bytes bigint := max_bytes;
  claimed pgflow.claim_record;
  summary pgflow.claim_record;
begin
  summary.lapsed := false;
  foreach slug in array flow_slugs loop
    if missing <= 0 and qty > 0 then
      summary.next_due := 0::double precision;
      exit;
    end if;
    queue := pgmq.format_table_name(slug, 'q');
    if to_regclass(format('pgmq.%I', queue)) is null then
      perform pgflow.tell_of_lost_queue(slug);
      summary.next_due := least(summary.next_due, 5::double precision); -- look then whether it is back
      continue;
    end if;
    for claimed in
      execute format(
        'select * from pgflow_queues.%I($1, $2, $3, false) c order by (c.task).msg_id', 'claim_' || queue
      ) using missing, worker_id, left_bytes
    loop
      if claimed.task is null then
        summary.next_due := least(summary.next_due, claimed.next_due);
        summary.next_bytes := coalesce(summary.next_bytes, claimed.next_bytes);
        summary.lapsed := summary.lapsed or claimed.lapsed;
      else
        return next claimed;
        missing := missing - 1;
        left_bytes := left_bytes - (claimed.task).input_bytes;
      end if;
    end loop;
  end loop;
  return next summary;
end
$$;
