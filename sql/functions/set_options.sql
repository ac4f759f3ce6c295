-- Sets the options of a flow and its steps to those of a definition, where they differ.
create or replace function pgflow.set_options(definition jsonb)
returns void
language plpgsql
set search_path = ''
as $$
begin
  update pgflow.flows f
  set
    opt_max_attempts = o.max_attempts, opt_base_delay = o.base_delay,
    opt_timeout = o.timeout, opt_blob_threshold = o.blob_threshold
  from jsonb_to_record(definition) as o (
    flow_slug text, max_attempts integer, base_delay integer, timeout integer, blob_threshold integer
  )
  where
    f.flow_slug = o.flow_slug
    and (f.opt_max_attempts, f.opt_base_delay, f.opt_timeout, f.opt_blob_threshold)
    is distinct from (o.max_attempts, o.base_delay, o.timeout, o.blob_threshold);

  update pgflow.steps s
  set
    opt_max_attempts = o.max_attempts, opt_base_delay = o.base_delay,
    opt_timeout = o.timeout, opt_blob_threshold = o.blob_threshold
  from jsonb_to_recordset(definition -> 'steps') as o (
    step_slug text, max_attempts integer, base_delay integer, timeout integer, blob_threshold integer
  )
  where
    s.flow_slug = definition ->> 'flow_slug' and s.step_slug = o.step_slug
    and (s.opt_max_attempts, s.opt_base_delay, s.opt_timeout, s.opt_blob_threshold)
    is distinct from (o.max_attempts, o.base_delay, o.timeout, o.blob_threshold);
end
$$;
