-- The queue of a flow is two tables, which belong to the role that creates them. Workers may define
-- flows, and all of them must be able to use the queues. So a trigger creates each queue as soon as its
-- flow is inserted, as the owner of the schema.

-- Grants the roles the use of a flow's queue. Its messages name a task and carry no value.
create or replace function pgflow.grant_queue(flow_slug text)
returns void
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
declare
  queue text := format('pgmq.%I', pgmq.format_table_name(flow_slug, 'q'));
  archive text := format('pgmq.%I', pgmq.format_table_name(flow_slug, 'a'));
  ids text := pg_get_serial_sequence(queue, 'msg_id');
  function regprocedure;
begin
  execute format(
    'revoke all on %s, %s from pgflow_worker, pgflow_client, pgflow_observer', queue, archive
  );
  execute format('grant select, insert, update, delete on %s to pgflow_worker', queue);
  execute format('grant select, insert on %s to pgflow_worker', archive);
  execute format('grant select on sequence %s to pgflow_worker, pgflow_observer', ids);
  execute format('grant usage on sequence %s to pgflow_worker', ids);
  execute format('grant select on %s, %s to pgflow_observer', queue, archive);
  -- Usually every role may execute functions, but the owner's default privileges may say otherwise.
  for function in
    select p.oid::regprocedure
    from pg_catalog.pg_proc p
    join unnest(array['advance', 'archive', 'look', 'claim']) as f (what)
    on p.proname = format('%s_%s', f.what, pgmq.format_table_name(flow_slug, 'q'))
    where p.pronamespace = 'pgflow_queues'::regnamespace
  loop
    execute format('grant execute on function %s to pgflow_worker', function);
  end loop;
end
$$;

create or replace function pgflow.make_queue()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp -- or a temporary type of the caller would come first
as $$
begin
  if pgflow.lost_queue(new.flow_slug) = '{}' then
    perform pgflow.refuse_foreign_queue(new.flow_slug);
    perform pgflow.make_queue_functions(new.flow_slug);
  else
    perform pgflow.create_queue(new.flow_slug);
  end if;
  perform pgflow.grant_queue(new.flow_slug);
  return null;
end
$$;

create or replace trigger make_queue
after insert on pgflow.flows
for each row
when (length(new.flow_slug) <= 47) -- create_flow() refuses longer ones
execute function pgflow.make_queue();

select pgflow.grant_queue(f.flow_slug) from pgflow.flows f
where pgflow.lost_queue(f.flow_slug) = '{}' and pgflow.foreign_queue(f.flow_slug) = '{}';
