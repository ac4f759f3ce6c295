-- Internal, of sql_value(). Returns a list that is kept by its elements, or null if SQL cannot read all
-- of them, or if they are longer than 64 MiB together.
create or replace function pgflow.sql_list(inline jsonb, blob_ids uuid[])
returns jsonb
language plpgsql stable
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_custom_plan -- a generic plan locks every day
as $$
declare
  known jsonb;
  is_hidden boolean;
begin
  if (select sum(b.raw_size) from pgflow.output_blobs b where b.id = any(blob_ids)) > 67108864 then
    return null;
  end if;
  select jsonb_agg(e.known order by e.n), bool_or(e.known is null) into known, is_hidden
  from (
    select i.n, pgflow.sql_value(i.value, blob_ids[i.n]) as known
    from jsonb_array_elements(inline) with ordinality as i (value, n)
    offset 0
  ) e;
  return case when not is_hidden then known end;
end
$$;
