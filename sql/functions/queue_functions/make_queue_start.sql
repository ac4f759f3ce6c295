-- Internal, of make_queue_functions(). Creates the function that starts a run of the queue's flow for each
-- input, and returns the rows of these runs in the order of the inputs. A null id stands for a new one.
--
-- It starts nothing and returns nothing if an input is longer than the flow's threshold, if the flow has
-- no steps or one that is not plain, or if there is no such flow. start_flows() then does the work.
--
-- It is one statement, because what a start costs is mostly the number of its statements. The statement
-- also reads the steps once, or a step that is added meanwhile may get a state and not be counted.
create or replace function pgflow.make_queue_start(queue text)
returns void
language plpgsql
set search_path = ''
as $make$
begin
  execute format($sql$
    create or replace function pgflow_queues.%I(
      slug text, inputs jsonb[], ids uuid[], delay double precision
    )
    returns setof pgflow.runs
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
    as $$
    begin
      return query
      with steps as materialized (
        select s.step_slug, s.step_index, s.deps_count, s.is_plain
        from pgflow.steps s where s.flow_slug = slug
      ),
      new as materialized (
        select coalesce(i.id, pgflow.new_id()) as run_id, i.input, i.n
        from unnest(ids, inputs) with ordinality as i (id, input, n)
        where
          -- raise_queue_floor() relies on this: the transaction gets its number before a message gets its id.
          pg_current_xact_id() is not null
          and (select bool_and(s.is_plain) from steps s)
          and not exists (
            select from pgflow.flows f, unnest(inputs) as i (input)
            -- Not more, or jsonb may be too small for the inputs of a task: see pgflow_events/flow/inline.py.
            where f.flow_slug = slug and octet_length(i.input::text) > least(f.opt_blob_threshold, 8388608)
          )
      ),
      states as (
        insert into pgflow.step_states (flow_slug, run_id, step_slug, remaining_deps, status, started_at)
        select
          slug, n.run_id, s.step_slug, s.deps_count,
          case when s.deps_count = 0 then 'started' else 'created' end,
          case when s.deps_count = 0 then clock_timestamp() end
        from new n, steps s
      ),
      messages as (
        insert into pgmq.%I (vt, message)
        select clock_timestamp() + make_interval(secs => delay), jsonb_build_object(
          'flow_slug', slug, 'run_id', r.run_id, 'step_slug', r.step_slug, 'task_index', 0
        )
        from (
          select n.run_id, s.step_slug from new n, steps s
          where s.deps_count = 0 order by n.n, s.step_index
        ) r
        returning msg_id, vt, message
      ),
      tasks as (
        insert into pgflow.step_tasks (flow_slug, run_id, step_slug, message_id, queued_at)
        select slug, (m.message ->> 'run_id')::uuid, m.message ->> 'step_slug', m.msg_id, m.vt
        from messages m
      )
      insert into pgflow.runs (run_id, flow_slug, input, has_blobs, remaining_steps)
      select n.run_id, slug, n.input, false, (select count(*) from steps) from new n order by n.n
      returning *;
    end
    $$
  $sql$, 'start_' || queue, queue);
end
$make$;
