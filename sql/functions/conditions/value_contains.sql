-- Internal, of contains_pattern(). Returns whether a value contains a pattern, as `@>` has it inside of other
-- values. `dep_slug` names the step whose output the value is, null the run's input. If the value is a blob that
-- SQL cannot read, the facts of the step that asks tell it; without them the function returns null.
create or replace function pgflow.value_contains(
  run_id uuid,
  step_slug text,
  dep_slug text,
  pattern jsonb,
  which text -- 'required' or 'forbidden'
)
returns boolean
language plpgsql stable
set search_path = ''
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  given record;
  known boolean := (
    select (s.facts -> coalesce(value_contains.dep_slug, 'run') ->> which)::boolean
    from pgflow.step_states s
    where s.run_id = value_contains.run_id and s.step_slug = value_contains.step_slug
  );
begin
  if known is not null then
    return known;
  end if;
  select * into given from pgflow.step_value(run_id, dep_slug);
  if given.status is distinct from 'completed' then
    return false;
  elsif given.blob_id is not null then
    select pgflow.blob_json(b.id) into given.value from pgflow.output_blobs b
    where
      b.id = given.blob_id and b.codec = 'none' and b.key_id is null and b.chunk_size is null
      and b.forgotten_at is null and b.elements is null;
    if not found then
      return null;
    end if;
  end if;
  return jsonb_build_object('it', coalesce(given.value, 'null')) @> jsonb_build_object('it', pattern);
end
$$;
