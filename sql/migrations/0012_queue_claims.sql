-- From now on one function for each queue makes a whole claim, and another one all of a look.
drop function if exists
pgflow.take_tasks(text[], timestamptz[], integer, uuid, bigint),
pgflow.take_messages(text, integer, uuid, bigint),
pgflow.next_bytes(text[]),
pgflow.next_visible(text, boolean),
pgflow.look(text[], boolean),
pgflow.make_queue_lock(text),
pgflow.make_queue_hide(text);

do $$
declare
  function regprocedure;
begin
  for function in
    select p.oid::regprocedure
    from pgflow.flows f
    cross join unnest(array['lock', 'hide', 'look']) as w (what)
    join pg_catalog.pg_proc p
    on p.proname = format('%s_%s', w.what, pgmq.format_table_name(f.flow_slug, 'q'))
    where p.pronamespace = to_regnamespace('pgflow_queues')
  loop
    execute format('drop function %s', function);
  end loop;
end
$$;
