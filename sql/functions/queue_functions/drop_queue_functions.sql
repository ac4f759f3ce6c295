-- Owner. Drops the functions that make_queue_functions() created for a flow. Call it when you delete a
-- flow and its queue.
create or replace function pgflow.drop_queue_functions(flow_slug text)
returns void
language plpgsql
set search_path = ''
set standard_conforming_strings = on -- pgmq's functions rely on it
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
        from unnest(array['start', 'advance', 'archive', 'look', 'claim']) as f (what)
      ))
  loop
    execute format('drop function %s', function);
  end loop;
end
$$;
