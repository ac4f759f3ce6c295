-- Owner. Returns the tables of the queue of this flow that are missing.
create or replace function pgflow.lost_queue(flow_slug text)
returns text[]
language plpgsql stable
set search_path = ''
as $$
begin
  return array(
    select t.name
    from unnest(array[
      pgmq.format_table_name(flow_slug, 'q'), pgmq.format_table_name(flow_slug, 'a')
    ]) as t (name)
    where to_regclass(format('pgmq.%I', t.name)) is null
  );
end
$$;
