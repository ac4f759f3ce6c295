-- Internal, of define_flow(). Sets the options of a flow and its steps to those of a definition. Rows
-- whose options are equal are not written.
create or replace function pgflow.set_options(definition jsonb)
returns void
language plpgsql
set search_path = ''
as $$
begin
  update pgflow.flows f
  set
    opt_max_attempts = o.max_attempts, opt_base_delay = o.base_delay,
    opt_timeout = o.timeout, opt_blob_threshold = o.blob_threshold,
    opt_keep_output = o.keep_output
  from jsonb_to_record(definition) as o (
    flow_slug text, max_attempts integer, base_delay integer, timeout integer,
    blob_threshold integer, keep_output integer
  )
  where
    f.flow_slug = o.flow_slug
    and (f.opt_max_attempts, f.opt_base_delay, f.opt_timeout, f.opt_blob_threshold, f.opt_keep_output)
    is distinct from (o.max_attempts, o.base_delay, o.timeout, o.blob_threshold, o.keep_output);

  update pgflow.steps s
  set
    opt_max_attempts = o.max_attempts, opt_base_delay = o.base_delay,
    opt_timeout = o.timeout, opt_blob_threshold = o.blob_threshold,
    opt_keep_output = o.keep_output, opt_loads = o.loads, opt_start_delay = o.start_delay,
    opt_tolerate = o.tolerate
  from jsonb_to_recordset(definition -> 'steps') as o (
    step_slug text, max_attempts integer, base_delay integer, timeout integer,
    blob_threshold integer, keep_output integer, loads text[], start_delay integer, tolerate real
  )
  where
    s.flow_slug = definition ->> 'flow_slug' and s.step_slug = o.step_slug
    and (
      s.opt_max_attempts, s.opt_base_delay, s.opt_timeout, s.opt_blob_threshold, s.opt_keep_output,
      s.opt_loads, s.opt_start_delay, s.opt_tolerate
    )
    is distinct from (
      o.max_attempts, o.base_delay, o.timeout, o.blob_threshold, o.keep_output, o.loads,
      o.start_delay, o.tolerate
    );
  -- A start delay is an option, and a step with one is not plain.
  perform pgflow.mark_plain_steps(definition ->> 'flow_slug');
end
$$;
