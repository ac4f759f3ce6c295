-- Public. Starts a run for each input, all in this transaction, and returns their rows in the order of
-- the inputs. The commit wakes the workers. `run_ids` gives the ids of the runs: a call that is repeated
-- with the same ids cannot start them twice. A null id, or no array, stands for a new id.
-- `input_blob_ids` is for clients. It gives the inputs that are blobs, which the same transaction has
-- stored before this call. Any other input that is longer than the flow's threshold becomes a blob here.
-- The first tasks become visible after `delay` seconds. `input_facts` is for clients too: it says whether inputs
-- that SQL cannot read contain the patterns of steps.
--
-- Raises:
--   P0002 no_data_found: no flow has this slug.
--   23505 unique_violation: a run has one of these ids already.
--   22023 invalid_parameter_value: a blob is not the finished input of its run, or the delay is not from 0
--     to 3153600000 seconds, a hundred years.
--   23502 not_null_violation: an input is the SQL null. For JSON null write 'null'.
--   P0001 raise_exception: a map goes over the input, which is no list.
--
-- Example:
--   select status, input from pgflow.start_flows('double', array['1', '2']::jsonb[]);
create or replace function pgflow.start_flows(
  flow_slug text,
  inputs jsonb[],
  run_ids uuid[] default null,
  input_blob_ids uuid[] default null,
  delay double precision default 0,
  input_facts jsonb[] default null
)
returns setof pgflow.runs
language plpgsql
set search_path = ''
set standard_conforming_strings = on -- pgmq's functions rely on it
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  queue text := pgmq.format_table_name(start_flows.flow_slug, 'q');
  ids uuid[];
  threshold integer;
  blob_ids uuid[];
  steps record;
begin
  if start_flows.delay between 0 and 3153600000 is not true then
    raise exception 'the delay of a start is 0 to 3153600000 seconds, not %', start_flows.delay
    using errcode = 'invalid_parameter_value';
  end if;
  -- Mostly this is all: the function starts the runs if their inputs are small and the flow has steps.
  if
    coalesce(array_remove(start_flows.input_blob_ids, null), '{}') = '{}'
    and to_regclass(format('pgmq.%I', queue)) is not null
  then
    return query execute format('select * from pgflow_queues.%I($1, $2, $3, $4)', 'start_' || queue)
    using start_flows.flow_slug, start_flows.inputs, start_flows.run_ids, start_flows.delay;
    if found then
      return;
    end if;
  end if;

  -- Inputs that are or become blobs, a flow without steps or with one that is not plain, a queue that is lost.
  ids := array(
    select coalesce(i.run_id, pgflow.new_id())
    from unnest(start_flows.inputs, start_flows.run_ids) with ordinality as i (input, run_id, n)
    order by i.n
  );
  -- Not more, or jsonb may be too small for the inputs of a task: see pgflow_events/flow/inline.py.
  select least(f.opt_blob_threshold, 8388608) into threshold
  from pgflow.flows f where f.flow_slug = start_flows.flow_slug;
  if not found then
    raise exception 'unknown flow "%"', start_flows.flow_slug using errcode = 'no_data_found';
  end if;
  -- Read the steps once, or a step that is added meanwhile may get a state and not be counted.
  select
    array_agg(s.step_slug) as slugs, array_agg(s.deps_count) as deps_counts, count(*) as n,
    array_agg(case when s.step_type = 'single' then 1 end) as sizes,
    array_agg(s.is_plain) as plain, coalesce(bool_and(s.is_plain), true) as are_plain,
    bool_or(s.step_type = 'map' and s.deps_count = 0) as has_root_map
  into steps from pgflow.steps s where s.flow_slug = start_flows.flow_slug;
  if steps.has_root_map then
    perform pgflow.refuse_no_lists(start_flows.flow_slug, start_flows.inputs, start_flows.input_blob_ids);
  end if;

  blob_ids := array(
    select coalesce(
      i.blob_id, case when octet_length(i.input::text) > threshold then pgflow.new_blob_id(i.run_id) end
    )
    from unnest(ids, start_flows.inputs, start_flows.input_blob_ids) with ordinality
      as i (run_id, input, blob_id, n)
    order by i.n
  );

  if array_remove(start_flows.input_blob_ids, null) <> '{}' then
    perform pgflow.refuse_inputs(ids, start_flows.input_blob_ids);
  end if;

  -- Before the runs: the event of a run tells the size of its input.
  if array_remove(blob_ids, null) <> '{}' then
    perform pgflow.insert_json_blob(
      i.blob_id, i.run_id, 'run', 0, convert_to(i.input::text, 'UTF8')
    )
    from unnest(ids, start_flows.inputs, blob_ids, start_flows.input_blob_ids)
      as i (run_id, input, blob_id, given)
    where i.blob_id is not null and i.given is null;
  end if;

  insert into pgflow.runs (run_id, flow_slug, input, input_blob_id, has_blobs, remaining_steps, is_plain)
  select
    i.run_id, start_flows.flow_slug,
    case when i.blob_id is null then i.input else 'null' end, i.blob_id,
    i.blob_id is not null, steps.n, steps.are_plain
  from unnest(ids, start_flows.inputs, blob_ids) as i (run_id, input, blob_id);

  insert into pgflow.step_states (
    flow_slug, run_id, step_slug, remaining_deps, initial_tasks, status, started_at, facts, queued_tasks
  )
  select
    start_flows.flow_slug, i.run_id, s.step_slug, s.deps_count, s.size,
    case when s.deps_count = 0 and steps.are_plain then 'started' else 'created' end,
    case when s.deps_count = 0 and steps.are_plain then clock_timestamp() end,
    case when i.facts ? s.step_slug then jsonb_build_object('run', i.facts -> s.step_slug) end,
    case when not s.is_plain then 0 end
  from unnest(ids, start_flows.input_facts) as i (run_id, facts),
    unnest(steps.slugs, steps.deps_counts, steps.sizes, steps.plain)
      as s (step_slug, deps_count, size, is_plain)
  where i.run_id is not null;

  if steps.n = 0 then
    perform pgflow.maybe_complete_run(i) from unnest(ids) i;
  elsif not steps.are_plain then
    perform pgflow.settle_run(i, start_flows.delay) from unnest(ids) i;
  else
    perform pgflow.queue_steps(start_flows.flow_slug, start_flows.delay, array(
      select row(start_flows.flow_slug, i.run_id, s.step_slug, i.n)::pgflow.started_step
      from unnest(ids) with ordinality as i (run_id, n),
        unnest(steps.slugs, steps.deps_counts) as s (step_slug, deps_count)
      where s.deps_count = 0
    ));
  end if;

  return query
  select r.*
  from unnest(ids) with ordinality as i (run_id, n)
  -- The limit keeps this an index look-up: a join may be planned to read the whole table.
  cross join lateral (select * from pgflow.runs r where r.run_id = i.run_id limit 1) r
  order by i.n;
end
$$;

comment on function pgflow.start_flows is
'Starts a run for each input, and returns their rows in the order of the inputs. The commit wakes the '
'workers. Raises if there is no such flow, or if a run has one of the given ids already.';
