-- Internal, of unmet_steps(). Returns whether the data of a step contain a pattern. The data
-- are {dependency: its output, "run": input of the run} over completed dependencies, and for a step without
-- dependencies the input itself. Returns null if a value cannot be read.
create or replace function pgflow.contains_pattern(
  run_id uuid,
  step_slug text,
  is_root boolean,
  pattern jsonb,
  which text
)
returns boolean
language sql stable
set search_path = ''
as $$
  select case
    when is_root then pgflow.value_contains(run_id, step_slug, null, pattern, which)
    else (
      select case
        when bool_or(not c.contains) then false
        when bool_or(c.contains is null) then null
        else true end
      from (
        select pgflow.value_contains(run_id, step_slug, nullif(p.key, 'run'), p.value, which) as contains
        from jsonb_each(pattern) p
      ) c
    )
  end
$$;
