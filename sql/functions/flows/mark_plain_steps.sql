-- Internal, of set_options(). Marks which steps of a flow are plain: those that are so by their own options,
-- and come after no other. Rows that are marked already are not written.
create or replace function pgflow.mark_plain_steps(flow_slug text)
returns void
language sql
set search_path = ''
as $$
  with recursive others as (
    select s.step_slug from pgflow.steps s
    where
      s.flow_slug = mark_plain_steps.flow_slug
      and not pgflow.is_plain(
        s.step_type, s.opt_start_delay, s.required_input_pattern, s.forbidden_input_pattern,
        s.when_exhausted
      )
    union
    select d.step_slug from others o
    join pgflow.deps d on d.flow_slug = mark_plain_steps.flow_slug and d.dep_slug = o.step_slug
  )
  update pgflow.steps s set is_plain = not s.is_plain
  where
    s.flow_slug = mark_plain_steps.flow_slug
    and s.is_plain = exists (select from others o where o.step_slug = s.step_slug)
$$;
