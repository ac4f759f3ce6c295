-- Says which role may do what. It revokes everything first, so that rights that a release takes away are
-- gone.

revoke all on all tables in schema pgflow from pgflow_worker, pgflow_client, pgflow_observer;
revoke all on all sequences in schema pgflow from pgflow_worker, pgflow_client, pgflow_observer;
revoke all on all functions in schema pgflow
from public, pgflow_worker, pgflow_client, pgflow_observer;
revoke all on schema pgflow, pgflow_queues, pgmq from pgflow_worker, pgflow_client, pgflow_observer;

grant usage on schema pgflow to pgflow_worker, pgflow_client, pgflow_observer;
grant usage on schema pgmq to pgflow_worker, pgflow_observer;
-- Its functions run with the rights of the caller.
grant usage on schema pgflow_queues to pgflow_worker;

-- Usually every role may execute pgmq's functions, but the owner's default privileges may say otherwise.
do $$
declare
  function regprocedure;
begin
  for function in
    select p.oid::regprocedure from pg_catalog.pg_proc p
    where
      p.pronamespace = 'pgmq'::regnamespace and p.prokind = 'f' and pg_has_role(p.proowner, 'usage')
      and not has_function_privilege('pgflow_worker', p.oid, 'execute')
  loop
    execute format('grant execute on function %s to pgflow_worker', function);
  end loop;
end
$$;

-- Some functions run with the rights of the owner, and call others. A type in the caller's temporary schema
-- must not come before PostgreSQL's own.
do $$
declare
  function regprocedure;
begin
  for function in
    select p.oid::regprocedure from pg_catalog.pg_proc p
    where p.pronamespace = 'pgflow'::regnamespace and p.prokind = 'f'
  loop
    execute format('alter function %s set search_path = pg_catalog, pg_temp', function);
  end loop;
end
$$;

-- A client has no rights on the tables that these functions fill.
alter function pgflow.start_flows security definer;
-- The owner may let a login call it that has no right on the queues.
alter function pgflow.cancel_runs security definer;
alter function pgflow.store_input security definer;
alter function pgflow.open_input security definer;
alter function pgflow.write_input security definer;
alter function pgflow.finish_input security definer;
-- A worker may not create tables, and deletes chunks only with their blob.
alter function pgflow.ensure_blob_days security definer;
alter function pgflow.forget_blobs security definer;
alter function pgflow.delete_chunks security definer;
-- The roles of workers and clients have no rights on the schema realtime.
alter function pgflow.send_runs_started security definer;
alter function pgflow.send_runs_ended security definer;
alter function pgflow.send_steps_started security definer;
alter function pgflow.send_steps_changed security definer;

-- A worker defines flows and sets their options, claims and settles tasks, stores and forgets blobs. It may
-- not delete a run, or change what a run was given.
grant select on
pgflow.schema_files, pgflow.flows, pgflow.steps, pgflow.deps, pgflow.runs, pgflow.blobs, pgflow.blob_dictionaries,
pgflow.live_workers, pgflow.workers
to pgflow_worker;
grant insert on pgflow.flows, pgflow.steps, pgflow.deps to pgflow_worker;
grant update (status, output, output_blobs_refs, remaining_steps, has_blobs, completed_at, failed_at)
on pgflow.runs to pgflow_worker;
grant select, update on pgflow.step_states to pgflow_worker;
grant select, insert, update on pgflow.step_tasks to pgflow_worker;
grant select, insert on pgflow.map_elements to pgflow_worker;
grant update (is_plain) on pgflow.steps to pgflow_worker;
grant select, insert, delete on pgflow.output_blobs to pgflow_worker;
grant update (raw_size, stored_size, sha256, preview, expires_at) on pgflow.output_blobs to pgflow_worker;
grant select, delete on pgflow.worker_seats to pgflow_worker;
grant insert (worker_id, seat, flow_slugs, host, pid), update (seat, flow_slugs, host, pid, connected_at)
on pgflow.worker_seats to pgflow_worker;
grant select, insert on pgflow.blob_chunks to pgflow_worker;
grant usage on sequence pgflow.seats to pgflow_worker;
do $$
declare
  options record;
begin
  for options in
    select a.attrelid::regclass as place, string_agg(quote_ident(a.attname), ', ') as names
    from pg_catalog.pg_attribute a
    where
      a.attrelid in ('pgflow.flows'::regclass, 'pgflow.steps'::regclass)
      and a.attname like 'opt\_%' and not a.attisdropped
    group by a.attrelid
  loop
    execute format('grant update (%s) on %s to pgflow_worker', options.names, options.place);
  end loop;
end
$$;
grant execute on all functions in schema pgflow to pgflow_worker;
-- These are for clients and the owner.
revoke execute on function
pgflow.cancel_runs, pgflow.start_flow, pgflow.start_flows, pgflow.store_input, pgflow.open_input, pgflow.write_input,
pgflow.finish_input, pgflow.add_partition, pgflow.lock_blob_day, pgflow.drop_blob_day,
pgflow.delete_runs, pgflow.delete_archived, pgflow.delete_dictionaries, pgflow.grant_queue, pgflow.make_queue,
pgflow.make_queue_functions, pgflow.make_queue_start, pgflow.make_queue_advance, pgflow.make_queue_archive, pgflow.make_queue_look,
pgflow.make_queue_claim, pgflow.drop_queue_functions, pgflow.create_queue,
pgflow.restore_queue, pgflow.adopt_queue, pgflow.mark_queue,
pgflow.prepare_queue, pgflow.raise_queue_ids, pgflow.requeue_lost_tasks,
pgflow.delete_flow_and_data, pgflow.ensure_flow_compiled, pgflow._create_flow_from_shape,
pgflow.setup_requeue_stalled_tasks_cron, pgflow.start_flow_with_states,
pgflow.mark_worker_stopped, pgflow.track_worker_function
from pgflow_worker;

-- A client starts runs, and reads the state and values of any run. It writes through functions only.
grant select on
pgflow.schema_files, pgflow.flows, pgflow.steps, pgflow.deps, pgflow.runs, pgflow.step_states, pgflow.step_tasks,
pgflow.output_blobs, pgflow.blob_chunks, pgflow.blob_dictionaries, pgflow.blobs
to pgflow_client;
grant select (flow_slugs, alive) on pgflow.live_workers to pgflow_client;
grant execute on function
pgflow.start_flow, pgflow.start_flows, pgflow.store_input, pgflow.open_input, pgflow.write_input,
pgflow.finish_input, pgflow.start_flow_with_states, pgflow.get_run_with_states,
pgflow.blob_json, pgflow.channel, pgflow.waiting_key, pgflow.seat_key, pgflow.worker_tasks
to pgflow_client;

-- An observer reads the state of runs and what is stored, but no value.
grant select on
pgflow.schema_files, pgflow.flows, pgflow.steps, pgflow.deps, pgflow.dropped_days,
pgflow.worker_seats, pgflow.live_workers, pgflow.workers, pgflow.worker_functions
to pgflow_observer;
do $$
declare
  seen record;
begin
  for seen in
    select a.attrelid::regclass as place, string_agg(quote_ident(a.attname), ', ') as names
    from (
      values
      ('pgflow.runs', array['input', 'output']),
      ('pgflow.step_states', array['output', 'facts']),
      ('pgflow.step_tasks', array['output']),
      ('pgflow.output_blobs', array['content', 'data_key', 'preview']),
      ('pgflow.blob_chunks', array['content']),
      ('pgflow.blob_dictionaries', array['content']),
      ('pgflow.blobs', array['preview'])
    ) as t (place, hidden)
    join pg_catalog.pg_attribute a on a.attrelid = t.place::regclass
    where a.attnum > 0 and not a.attisdropped and a.attname <> all (t.hidden)
    group by a.attrelid
  loop
    execute format('grant select (%s) on %s to pgflow_observer', seen.names, seen.place);
  end loop;
end
$$;
grant execute on function
pgflow.channel, pgflow.seat_key, pgflow.worker_tasks, pgflow.queue_mark, pgflow.foreign_queue, pgflow.lost_queue,
pgflow.lost_tasks, pgflow.reuses_ids, pgflow.task_messages
to pgflow_observer;
