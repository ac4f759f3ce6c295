-- Public. Defines a whole flow, or checks it against the stored one. Returns how the shapes differ, one
-- line a difference; with none, options that differ are set to those of the definition.
create or replace function pgflow.define_flow(definition jsonb)
returns text[]
language plpgsql
set search_path = ''
set standard_conforming_strings = on -- pgmq's functions are written for it
as $$
#variable_conflict use_column
declare
  slug text := definition ->> 'flow_slug';
  differences text[];
begin
  perform pg_advisory_xact_lock(hashtextextended('pgflow.define_flow.' || slug, 0));

  if not exists (select from pgflow.flows f where f.flow_slug = slug) then
    perform pgflow.create_flow(slug);
  else
    perform pgflow.refuse_foreign_queue(slug);
  end if;
  perform pgflow.restore_steps(definition);

  differences := pgflow.shape_differences(definition);
  if differences = '{}' then
    perform pgflow.set_options(definition);
  end if;
  return differences;
end
$$;

comment on function pgflow.define_flow is
'Defines a whole flow, or compares it with the stored one. Returns one line for each difference in shape; '
'without any, sets its options.';
