-- Public, as in pgflow. Defines a flow by its shape, or compares the shape with the stored flow. Returns
-- {"status": …, "differences": […]}. The status is `compiled` if there was no such flow, and `verified`
-- if its shape is the same. Otherwise it is `mismatch`, and nothing changes. In a database of local
-- development (see is_local()), or with allow_data_loss, the flow is deleted with its runs and defined
-- again: then the status is `recompiled`. The options of a stored flow are not compared.
--
-- Raises:
--   22023 invalid_parameter_value: the shape has no list of steps.
--   23503 foreign_key_violation: a step depends on a step that is not defined before it.
--   23514 check_violation: a slug or an option is not valid.
--   42P07 duplicate_table: another application owns the queue of this name.
--
-- Example:
--   select pgflow.ensure_flow_compiled('digest', '{"steps": [
--     {"slug": "pages", "dependencies": []},
--     {"slug": "summary", "stepType": "map", "dependencies": ["pages"], "options": {"timeout": 30}}
--   ]}');
create or replace function pgflow.ensure_flow_compiled(
  flow_slug text,
  shape jsonb,
  allow_data_loss boolean default false
)
returns jsonb
language plpgsql
set search_path = ''
set standard_conforming_strings = on -- pgmq's functions rely on it
as $$
declare
  status text := 'compiled';
  differences text[] := array[]::text[];
begin
  -- The lock of define_flow().
  perform pg_advisory_xact_lock(
    hashtextextended('pgflow.define_flow.' || ensure_flow_compiled.flow_slug, 0)
  );
  if exists (select from pgflow.flows f where f.flow_slug = ensure_flow_compiled.flow_slug) then
    differences := pgflow._compare_flow_shapes(
      ensure_flow_compiled.shape, pgflow._get_flow_shape(ensure_flow_compiled.flow_slug)
    );
    status := case
      when differences = '{}' then 'verified'
      when ensure_flow_compiled.allow_data_loss or pgflow.is_local() then 'recompiled'
      else 'mismatch'
    end;
  end if;
  if status = 'recompiled' then
    perform pgflow.delete_flow_and_data(ensure_flow_compiled.flow_slug);
  end if;
  if status in ('compiled', 'recompiled') then
    perform pgflow._create_flow_from_shape(ensure_flow_compiled.flow_slug, ensure_flow_compiled.shape);
  end if;
  return jsonb_build_object('status', status, 'differences', to_jsonb(differences));
end
$$;

comment on function pgflow.ensure_flow_compiled is
'Defines a flow by its shape, or compares the shape with the stored flow: compiled, verified, mismatch. '
'With allow_data_loss, or in local development, a flow of another shape is deleted and made again: '
'recompiled.';
