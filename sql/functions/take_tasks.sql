-- Claims up to qty visible tasks: those of the first flow by their age, then those of the next; of
-- those whose handlers load blobs, no more than max_bytes of these.
create or replace function pgflow.take_tasks(
  flow_slugs text[],
  qty integer,
  worker_id uuid,
  max_bytes bigint default null
)
returns setof pgflow.step_task_record
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  slug text;
  message_ids bigint[];
  missing integer := qty;
  left_bytes bigint := max_bytes;
begin
  foreach slug in array flow_slugs loop
    exit when (missing > 0) is not true;
    message_ids := pgflow.take_messages(slug, missing, worker_id, left_bytes);
    missing := missing - cardinality(message_ids);
    return query select * from pgflow.task_records(slug, message_ids);
    if left_bytes is not null and missing > 0 and message_ids <> '{}' then
      left_bytes := left_bytes - (
        select sum(t.input_bytes)::bigint from pgflow.step_tasks t
        where t.flow_slug = slug and t.message_id = any(message_ids)
      );
    end if;
  end loop;
end
$$;
