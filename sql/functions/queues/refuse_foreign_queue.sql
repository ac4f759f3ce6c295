-- Internal, of create_flow(), create_queue(), define_flow(). Raises duplicate_table if another
-- application made the queue of this name, or its archive.
create or replace function pgflow.refuse_foreign_queue(flow_slug text)
returns void
language plpgsql
set search_path = ''
as $$
declare
  tables text[] := pgflow.foreign_queue(flow_slug);
begin
  if tables <> '{}' then
    raise exception
      'the flow "%" cannot use pgmq.%, which % to another application. Give the flow another slug; or,'
      ' if they were made for this flow (by hand, or by a dump without comments), let their owner run:'
      ' select pgflow.adopt_queue(%)',
      flow_slug, array_to_string(tables, ' and pgmq.'),
      case when cardinality(tables) > 1 then 'belong' else 'belongs' end, quote_literal(flow_slug)
      using errcode = 'duplicate_table';
  end if;
end
$$;
