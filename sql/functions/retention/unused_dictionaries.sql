-- Internal, of delete_dictionaries(), prunable(). The dictionaries that a newer one has replaced and no
-- blob was compressed with. A worker uses the old one until it has looked again, and for what it could not
-- commit meanwhile: hence the week.
create or replace function pgflow.unused_dictionaries()
returns setof integer
language sql stable
set search_path = ''
as $$
  select d.id from pgflow.blob_dictionaries d
  where
    exists (
      select from pgflow.blob_dictionaries n
      where
        n.flow_slug = d.flow_slug and n.step_slug = d.step_slug and n.id > d.id
        and n.created_at < clock_timestamp() - '7 days'::interval
    )
    and not exists (select from pgflow.output_blobs b where b.dictionary_id = d.id)
$$;
