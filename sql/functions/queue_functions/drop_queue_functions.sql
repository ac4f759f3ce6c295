-- Owner. Drops what make_queue_functions() wrote, for who deletes a flow and its queue.
create or replace function pgflow.drop_queue_functions(flow_slug text)
returns void
language plpgsql
set search_path = ''
set standard_conforming_strings = on -- pgmq's functions are written for it
as $$
declare
  queue text := pgmq.format_table_name(flow_slug, 'q');
  function regprocedure;
begin
  for function in
    select p.oid::regprocedure from pg_catalog.pg_proc p
    where
      p.pronamespace = 'pgflow_queues'::regnamespace
      and p.proname = any(array(
        select format('%s_%s', what, queue)
        from unnest(array['send', 'archive', 'lock', 'hide', 'look']) as f (what)
      ))
  loop
    execute format('drop function %s', function);
  end loop;
end
$$;
