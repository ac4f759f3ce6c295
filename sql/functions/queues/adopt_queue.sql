-- Owner. Says that a queue that is there already is this flow's, for whoever made it by hand or restored it
-- from a dump without comments. Run `pgflow-events migrate` afterwards, if the flow has runs: they may have
-- lost messages.
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
