-- Internal, of cascade_complete_taskless_steps(), excuse_tasks(), skip_steps(). Subtracts steps of a run that
-- are done from those that the steps that depend on them wait for, and from those that the run waits for.
create or replace function pgflow.count_down(run_id uuid, flow_slug text, step_slugs text[])
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  update pgflow.step_states s set remaining_deps = s.remaining_deps - d.n
  from (
    select p.step_slug, count(*)::integer as n
    from pgflow.deps p
    where p.flow_slug = count_down.flow_slug and p.dep_slug = any(step_slugs) group by p.step_slug
  ) d
  where s.run_id = count_down.run_id and s.step_slug = d.step_slug and s.status = 'created';
  update pgflow.runs r set remaining_steps = r.remaining_steps - cardinality(step_slugs)
  where r.run_id = count_down.run_id;
end
$$;
