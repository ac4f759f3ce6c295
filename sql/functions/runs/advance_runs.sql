-- Internal, of settle_tasks(). Completes those of the given tasks that have no error message. With their
-- last task it completes their steps, and with their last step their runs, with the outputs of the leaf
-- steps. It subtracts completed steps from those that wait for them, and starts each step that waits for
-- no other, except in runs that fail, and except for steps that are not plain: settle_run() goes on with
-- these. Returns what it did to each flow. The caller has locked the runs.
--
-- The statements are as few and as small as can be: each costs as much as a few look-ups, and a larger one
-- takes memory that the process gets from the system, and gives back, at each call.
--
-- A row is looked up by its key and updated by its address (ctid). A join would be planned to read the
-- whole table if statistics were taken while the table was small.
create or replace function pgflow.advance_runs(
  run_ids uuid[],
  step_slugs text[],
  task_indexes integer[],
  attempts integer[],
  outputs jsonb[],
  output_blob_ids uuid[],
  error_messages text[],
  failing uuid[]
)
returns pgflow.advanced_flow[]
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  flow pgflow.advanced_flow;
  flows pgflow.advanced_flow[] := array[]::pgflow.advanced_flow[];
begin
  for flow in
    with completed as (
      update pgflow.step_tasks t
      set
        status = 'completed', completed_at = clock_timestamp(),
        output = i.output, output_blob_id = i.output_blob_id
      from unnest(run_ids, step_slugs, task_indexes, attempts, outputs, output_blob_ids, error_messages)
        with ordinality
        as i (run_id, step_slug, task_index, attempt, output, output_blob_id, error_message, n)
      where
        t.ctid = (
          select u.ctid from pgflow.step_tasks u
          where u.run_id = i.run_id and u.step_slug = i.step_slug and u.task_index = i.task_index
        )
        and i.error_message is null
        and t.status in ('queued', 'started') and t.attempts_count = coalesce(i.attempt, t.attempts_count)
        and (select r.status from pgflow.runs r where r.run_id = t.run_id) = 'started'
      returning
        i.n::integer as place, t.flow_slug, t.run_id, t.step_slug, t.message_id,
        t.attempts_count > 1 as retried, t.output_blob_id is not null as has_blobs
    ),
    counted as (
      update pgflow.step_states s
      set
        remaining_tasks = s.remaining_tasks - d.n,
        status = case when s.remaining_tasks = d.n then 'completed' else s.status end,
        completed_at = case when s.remaining_tasks = d.n then clock_timestamp() end
      from (
        select
          c.run_id, c.step_slug, count(*)::integer as n, min(c.place) as place,
          bool_or(c.has_blobs) as has_blobs
        from completed c group by c.run_id, c.step_slug
      ) d
      where
        s.ctid = (
          select u.ctid from pgflow.step_states u
          where u.run_id = d.run_id and u.step_slug = d.step_slug
        )
      returning
        s.flow_slug, s.run_id, s.step_slug, d.place, s.status = 'completed' as completes, d.has_blobs,
        -- See fill_windows().
        coalesce(
          s.queued_tasks < s.initial_tasks
          and s.queued_tasks - (s.initial_tasks - s.remaining_tasks) <= 500, false
        ) as refills
    )
    select
      c.flow_slug, array_agg(c.place), array_agg(c.message_id),
      array_agg(c.run_id) filter (where c.retried),
      (
        select array_agg(row(s.run_id, s.step_slug, s.place, s.completes, s.has_blobs, s.refills)::pgflow.counted_step)
        from counted s where s.flow_slug = c.flow_slug
      ),
      null::pgflow.started_step[], null::uuid[], null::uuid[]
    from completed c group by c.flow_slug order by min(c.place)
  loop
    with waiting as (
      update pgflow.step_states s
      set
        remaining_deps = s.remaining_deps - d.n,
        status = case
          when s.remaining_deps = d.n and d.run_id <> all(failing) and s.queued_tasks is null
          then 'started' else 'created' end,
        started_at = case
          when s.remaining_deps = d.n and d.run_id <> all(failing) and s.queued_tasks is null
          then clock_timestamp() end
      from (
        select c.run_id, deps.step_slug, count(*)::integer as n, min(c.place) as place
        from unnest(flow.counted) c
        join pgflow.deps on deps.flow_slug = flow.flow_slug and deps.dep_slug = c.step_slug
        where c.completes group by c.run_id, deps.step_slug
      ) d
      where
        s.ctid = (
          select u.ctid from pgflow.step_states u
          where u.run_id = d.run_id and u.step_slug = d.step_slug
        )
        and s.status = 'created'
      returning s.run_id, s.step_slug, d.place, s.status = 'started' as starts
    )
    select array_agg(row(flow.flow_slug, w.run_id, w.step_slug, w.place)::pgflow.started_step)
    into flow.started from waiting w where w.starts;

    with advanced as (
      update pgflow.runs r
      set
        remaining_steps = r.remaining_steps - d.n,
        has_blobs = r.has_blobs or d.has_blobs,
        status = case when r.remaining_steps = d.n and r.is_plain then 'completed' else r.status end,
        completed_at = case when r.remaining_steps = d.n and r.is_plain then clock_timestamp() end,
        (output, output_blobs_refs) = (
          select
            coalesce(
              jsonb_object_agg(t.step_slug, t.output) filter (where t.output_blob_id is null), '{}'
            ),
            jsonb_object_agg(t.step_slug, t.output_blob_id) filter (where t.output_blob_id is not null)
          from pgflow.step_tasks t
          where
            t.run_id = r.run_id and t.status = 'completed'
            and (
              -- Leaf steps only. A step that was added after the run started is not in the run. Without
              -- limits, this may be planned to read all of the run for each of its tasks.
              select d.step_slug from pgflow.deps d
              cross join lateral (
                select from pgflow.step_states s
                where s.run_id = r.run_id and s.step_slug = d.step_slug limit 1
              ) s
              where d.flow_slug = flow.flow_slug and d.dep_slug = t.step_slug limit 1
            ) is null
          having r.remaining_steps = d.n and r.is_plain
        )
      from (
        select
          c.run_id, count(*) filter (where c.completes)::integer as n, bool_or(c.has_blobs) as has_blobs,
          bool_or(c.refills) as refills
        from unnest(flow.counted) c group by c.run_id
      ) d
      where
        r.ctid = (select u.ctid from pgflow.runs u where u.run_id = d.run_id)
        and (d.n > 0 or d.has_blobs and not r.has_blobs or d.refills)
      returning
        r.run_id, r.status = 'completed' as ends, r.has_blobs,
        not r.is_plain and (d.n > 0 or d.refills) and r.run_id <> all(failing) as goes_on
    )
    select
      array_agg(case when a.has_blobs then a.run_id end) filter (where a.ends),
      array_agg(a.run_id) filter (where a.goes_on)
    into flow.ended, flow.unsettled from advanced a;
    flows := flows || flow;
  end loop;
  return flows;
end
$$;
