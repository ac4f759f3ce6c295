-- Internal, of ensure_blob_days(). Adds a day's partition, and moves there what the default one has of that
-- day. It is made beside its parent and then attached, since PARTITION OF would wait for all who use the
-- parent, and keep waiting those who come after. To attach still locks the default partition, and looks
-- through it: where others use that for long, this raises soon.
create or replace function pgflow.add_partition(parent text, day date, lower uuid, upper uuid)
returns void
language plpgsql
set search_path = ''
set lock_timeout = '100ms'
as $$
declare
  partition text := pgflow.blob_partition(parent, day);
begin
  execute format('create table %s (like pgflow.%I including all)', partition, parent);
  execute format('lock table pgflow.%I in access exclusive mode', parent || '_default');
  execute format(
    'with moved as (delete from pgflow.%1$I d where d.%2$I >= $1 and d.%2$I < $2 returning d.*)
    insert into %3$s select m.* from moved m',
    parent || '_default', case parent when 'output_blobs' then 'id' else 'blob_id' end, partition
  ) using lower, upper;
  execute format(
    'alter table pgflow.%I attach partition %s for values from (%L) to (%L)',
    parent, partition, lower, upper
  );
end
$$;
