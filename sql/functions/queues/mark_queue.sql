-- Internal, of prepare_queue(). Marks the tables of the queue of this flow as made for a flow.
create or replace function pgflow.mark_queue(flow_slug text)
returns void
language plpgsql
set search_path = ''
as $$
declare
  kind text;
begin
  foreach kind in array array['q', 'a'] loop
    execute format(
      'comment on table pgmq.%I is %L', pgmq.format_table_name(flow_slug, kind), pgflow.queue_mark()
    );
  end loop;
end
$$;
