-- Owner. Marks an existing queue as the queue of this flow. Call it for a queue that you made by hand,
-- or restored from a dump without comments. Raises undefined_table if a table of the queue is missing.
--
-- If the flow has runs, run `pgflow-events migrate` afterwards: their messages may be lost, and it sends
-- them again.
create or replace function pgflow.adopt_queue(flow_slug text)
returns void
language plpgsql
set search_path = ''
as $$
declare
  lost text[] := pgflow.lost_queue(flow_slug);
begin
  if lost <> '{}' then
    raise exception 'there is no table pgmq.%', lost[1] using errcode = 'undefined_table';
  end if;
  perform pgflow.prepare_queue(flow_slug);
  perform pgflow.raise_queue_ids(flow_slug);
end
$$;
