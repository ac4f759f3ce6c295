-- Internal, of add_step(), mark_plain_steps(). Returns whether a step of these options is plain: it has one
-- task, which starts as soon as the steps before it are completed, and a failure of it fails the run. A step
-- is plain only if all steps before it are so too.
create or replace function pgflow.is_plain(
  step_type text,
  start_delay integer,
  required_input_pattern jsonb,
  forbidden_input_pattern jsonb,
  when_exhausted text
)
returns boolean
language sql immutable
set search_path = ''
as $$
  select
    coalesce(step_type, 'single') = 'single' and coalesce(start_delay, 0) = 0
    and required_input_pattern is null and forbidden_input_pattern is null
    and coalesce(when_exhausted, 'fail') = 'fail'
$$;
