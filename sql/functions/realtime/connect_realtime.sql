-- Internal, of create_flow(), the trigger connect_realtime. Creates the triggers that send the events of
-- runs and steps to Supabase's Realtime, if the database has it and they are missing. Each transition of
-- a run or step is then one call of realtime.send(). A database without Realtime has no such trigger, and
-- pays nothing.
--
-- Each migration calls it, and so does create_flow(), for Realtime may come later. Only the owner
-- of the tables may create triggers, so it does nothing for other roles.
create or replace function pgflow.connect_realtime()
returns void
language plpgsql
set search_path = ''
as $$
declare
  event record;
begin
  if not pgflow.has_realtime() then
    return;
  end if;
  for event in
    select e.* from (
      values
      ('pgflow.runs', 'send_runs_started', 'insert', '', 'pgflow.send_runs_started()'),
      ('pgflow.runs', 'send_runs_ended', 'update', 'old table as old_runs', 'pgflow.send_runs_ended()'),
      ('pgflow.step_states', 'send_steps_started', 'insert', '', 'pgflow.send_steps_started()'),
      (
        'pgflow.step_states', 'send_steps_changed', 'update', 'old table as old_steps',
        'pgflow.send_steps_changed()'
      )
    ) as e (place, name, change, old, function)
    join pg_catalog.pg_class c on c.oid = e.place::regclass
    where
      pg_catalog.pg_has_role(c.relowner, 'usage')
      and not exists (select from pg_catalog.pg_trigger t where t.tgrelid = c.oid and t.tgname = e.name)
  loop
    execute format(
      'create trigger %I after %s on %s referencing %s new table as %s for each statement '
      'execute function %s',
      event.name, event.change, event.place, event.old,
      case event.place when 'pgflow.runs' then 'new_runs' else 'new_steps' end, event.function
    );
  end loop;
end
$$;
