-- Owner. Returns the tables of the queue of this name that no flow made, or the types that are in their
-- place. They belong to another application.
create or replace function pgflow.foreign_queue(flow_slug text)
returns text[]
language plpgsql stable
set search_path = ''
as $$
declare
  tables text[] := array[
    pgmq.format_table_name(flow_slug, 'q'), pgmq.format_table_name(flow_slug, 'a')
  ];
begin
  return array(
    select c.relname::text
    from pg_catalog.pg_class c
    where
      c.relnamespace = 'pgmq'::regnamespace and c.relname = any(tables)
      and obj_description(c.oid, 'pg_class') is distinct from pgflow.queue_mark()
    union all
    -- A table has a type of the same name, so a type that exists keeps the table from being created.
    select t.typname::text
    from pg_catalog.pg_type t
    where t.typnamespace = 'pgmq'::regnamespace and t.typname = any(tables) and t.typrelid = 0
    order by 1 desc
  );
end
$$;
