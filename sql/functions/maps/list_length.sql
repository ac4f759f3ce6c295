-- Internal, of learn_sizes(), refuse_no_lists(). Returns the number of elements of a value that a map goes
-- over, or null if it is not a list that SQL can read.
create or replace function pgflow.list_length(value jsonb, blob_id uuid)
returns integer
language sql stable
set search_path = ''
as $$
  select coalesce(cardinality(l.blob_ids), jsonb_array_length(l.elements))
  from pgflow.readable_list(value, blob_id) l
$$;
