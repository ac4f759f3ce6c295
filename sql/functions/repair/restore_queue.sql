-- Owner. Creates what is missing of the queue of a flow: its tables, its functions. Tables of another
-- application stay as they are.
--
-- requeue_lost_tasks() brings back the messages.
create or replace function pgflow.restore_queue(flow_slug text)
returns void
language plpgsql
set search_path = ''
as $$
declare
  lost text[] := pgflow.lost_queue(flow_slug);
  is_foreign boolean := pgflow.foreign_queue(flow_slug) <> '{}';
begin
  if lost <> '{}' and not is_foreign then
    perform pgflow.create_queue(flow_slug);
    perform pgflow.raise_queue_ids(flow_slug);
  elsif lost = '{}' then
    perform pgflow.make_queue_functions(flow_slug);
    if pgflow.reuses_ids(flow_slug) and not is_foreign then
      perform pgflow.raise_queue_ids(flow_slug);
    end if;
  end if;
end
$$;
