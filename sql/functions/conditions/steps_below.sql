-- Internal, of _cascade_force_skip_steps(), excuse_tasks(). Returns a step and all steps that depend on it,
-- directly or not.
create or replace function pgflow.steps_below(flow_slug text, step_slug text)
returns text[]
language sql stable
set search_path = ''
as $$
  with recursive below (slug) as (
    select steps_below.step_slug
    union
    select d.step_slug from below b
    join pgflow.deps d on d.flow_slug = steps_below.flow_slug and d.dep_slug = b.slug
  )
  select array_agg(b.slug) from below b
$$;
