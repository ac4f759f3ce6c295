-- Owner. Creates the functions through which starts, claims and completions use the queue of a flow. Each is
-- named `<what it does>_<table of the queue>`.
--
-- Each queue is a table of its own. Dynamic SQL that names it would be planned at each call, which takes
-- longer than running it. These functions keep their plans.
create or replace function pgflow.make_queue_functions(flow_slug text)
returns void
language plpgsql
set search_path = ''
as $$
declare
  queue text := pgmq.format_table_name(flow_slug, 'q');
begin
  perform pgflow.make_queue_start(queue);
  perform pgflow.make_queue_advance(flow_slug, queue);
  perform pgflow.make_queue_archive(queue);
  perform pgflow.make_queue_look(queue);
  perform pgflow.make_queue_claim(make_queue_functions.flow_slug, queue);
end
$$;
