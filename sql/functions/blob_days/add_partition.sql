-- Internal, of ensure_blob_days(). Creates the partition of a day and moves the day's rows there from
-- the default partition. Raises lock_not_available if another session keeps the default partition locked
-- for longer than 100 ms.
--
-- The table is created on its own and then attached. CREATE TABLE ... PARTITION OF would wait for every
-- session that uses the parent, and block every session that comes later. ATTACH still locks the default
-- partition and scans it.
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
