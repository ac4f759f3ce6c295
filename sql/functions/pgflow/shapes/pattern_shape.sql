-- Internal, of _get_flow_shape(). Returns a pattern as it stands in a shape, where it may be undefined.
create or replace function pgflow.pattern_shape(pattern jsonb)
returns jsonb
language sql immutable parallel safe
set search_path = ''
as $$
  select case
    when pattern is null then jsonb_build_object('defined', false)
    else jsonb_build_object('defined', true, 'value', pattern)
  end
$$;
