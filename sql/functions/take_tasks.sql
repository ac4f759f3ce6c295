-- Claims up to qty visible tasks: those of the first flow by their age, then those of the next.
create or replace function pgflow.take_tasks(flow_slugs text[], qty integer, worker_id uuid)
returns setof pgflow.step_task_record
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
declare
  slug text;
  message_ids bigint[];
  missing integer := qty;
begin
  foreach slug in array flow_slugs loop
    exit when (missing > 0) is not true;
    message_ids := pgflow.take_messages(slug, missing, worker_id);
    missing := missing - cardinality(message_ids);
    return query select * from pgflow.task_records(slug, message_ids);
  end loop;
end
$$;
