-- Internal, of delete_dictionaries(), prunable(). Returns the dictionaries that a newer one replaced at
-- least a week ago, and that no blob was compressed with.
--
-- The week is for workers: a worker uses the old dictionary until it looks again, and for values that it
-- could not commit meanwhile.
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
