-- Owner. Returns the days (UTC) that have partitions for blobs, each with the bounds of its blob ids.
create or replace function pgflow.blob_days()
returns table (day date, lower uuid, upper uuid)
language sql stable
set search_path = ''
set timezone = 'UTC'
as $$
  select d.day, pgflow.first_id(d.day::timestamptz), pgflow.first_id((d.day + 1)::timestamptz)
  from (
    select to_date(right(c.relname, 8), 'YYYYMMDD') as day
    from pg_catalog.pg_inherits i join pg_catalog.pg_class c on c.oid = i.inhrelid
    where i.inhparent = 'pgflow.output_blobs'::regclass and c.relname ~ '_[0-9]{8}$'
  ) d
  order by d.day
$$;
