-- Owner. Writes the functions that say to the queue of a flow what claims and completions say all the time.
-- A queue is a table of its own, and a text that names it is planned anew each time it is executed, for
-- longer than it takes then: these keep their plans.
--
-- Each is called `<what it does>_<table of the queue>`.
create or replace function pgflow.make_queue_functions(flow_slug text)
returns void
language plpgsql
set search_path = ''
as $$
declare
  queue text := pgmq.format_table_name(flow_slug, 'q');
begin
  perform pgflow.make_queue_send(queue);
  perform pgflow.make_queue_archive(queue);
  perform pgflow.make_queue_lock(queue);
  perform pgflow.make_queue_hide(queue);
  perform pgflow.make_queue_look(queue);
end
$$;
