-- The tables of the queue of this name that no flow made: another application did.
create or replace function pgflow.foreign_queue(flow_slug text)
returns text[]
language plpgsql stable
set search_path = ''
as $$
begin
  return array(
    select c.relname::text
    from pg_catalog.pg_class c
    where
      c.relnamespace = 'pgmq'::regnamespace
      and c.relname in (
        pgmq.format_table_name(flow_slug, 'q'), pgmq.format_table_name(flow_slug, 'a')
      )
      and obj_description(c.oid, 'pg_class') is distinct from pgflow.queue_mark()
    order by c.relname desc
  );
end
$$;
