-- Internal, of adopt_queue(), create_queue(). Marks a queue as its flow's and creates its functions. If
-- our roles exist, it grants them the use of the queue.
create or replace function pgflow.prepare_queue(flow_slug text)
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform pgflow.mark_queue(flow_slug);
  perform pgflow.make_queue_functions(flow_slug);
  if to_regproc('pgflow.grant_queue') is not null then
    execute format('select pgflow.%I($1)', 'grant_queue') using flow_slug;
  end if;
end
$$;
