-- Internal, of settle_tasks(). Notes what a worker says of outputs that SQL cannot read: whether they contain
-- the patterns of the steps that depend on them.
create or replace function pgflow.note_facts(run_ids uuid[], step_slugs text[], facts jsonb[])
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
#variable_conflict use_column
begin
  update pgflow.step_states s
  set facts = coalesce(s.facts, '{}') || i.facts
  from (
    select f.run_id, e.key as step_slug, jsonb_object_agg(f.step_slug, e.value) as facts
    from unnest(note_facts.run_ids, note_facts.step_slugs, note_facts.facts) as f (run_id, step_slug, facts)
    cross join jsonb_each(f.facts) e
    where jsonb_typeof(f.facts) = 'object'
    group by f.run_id, e.key
  ) i
  where s.run_id = i.run_id and s.step_slug = i.step_slug and s.status = 'created';
end
$$;
