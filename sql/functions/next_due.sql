-- Seconds until the next message of these flows becomes visible: 0 if one is, null if there is none.
-- With `later`, those that are visible already do not count.
create or replace function pgflow.next_due(flow_slugs text[], later boolean default false)
returns double precision
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  slug text;
  due timestamptz;
  first_due timestamptz;
begin
  foreach slug in array flow_slugs loop
    due := pgflow.next_visible(pgmq.format_table_name(slug, 'q'), later);
    first_due := least(first_due, due);
  end loop;
  -- greatest() would make 0 of null.
  return case when first_due is not null
    then greatest(extract(epoch from first_due - clock_timestamp()), 0)::double precision
  end;
end
$$;
