-- Internal, of task_blob_threshold(). Returns how many bytes of JSON the output of a step may have to
-- stay in its row, whatever its threshold is.
--
-- The outputs that a step depends on are one jsonb, and so is the output of a run. All values of one
-- jsonb share 8 MiB. pgflow_events/flow/inline.py says why, and has the same rule.
create or replace function pgflow.inline_limit(flow_slug text, step_slug text)
returns integer
language sql stable
set search_path = ''
as $$
  select 8388608 / coalesce(
    (
      select max(s.deps_count)
      from pgflow.deps d
      join pgflow.steps s on s.flow_slug = d.flow_slug and s.step_slug = d.step_slug
      where d.flow_slug = inline_limit.flow_slug and d.dep_slug = inline_limit.step_slug
    ),
    (
      select count(*)::integer
      from pgflow.steps s
      where
        s.flow_slug = inline_limit.flow_slug
        -- The limit keeps this an index look-up.
        and (
          select d.dep_slug from pgflow.deps d
          where d.flow_slug = s.flow_slug and d.dep_slug = s.step_slug limit 1
        ) is null
    )
  )
$$;
