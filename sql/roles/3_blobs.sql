-- Who writes blobs may update theirs, and with it any: the columns that make a blob readable stay as they are
-- once it is finished.
create or replace function pgflow.refuse_change()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'blob % is finished', old.id using errcode = 'object_not_in_prerequisite_state';
end
$$;

create or replace trigger refuse_change
before update of raw_size, stored_size, sha256, preview on pgflow.output_blobs
for each row
when (
  old.sha256 is not null and new.forgotten_at is null
  and (old.raw_size, old.stored_size, old.sha256, old.preview)
  is distinct from (new.raw_size, new.stored_size, new.sha256, new.preview)
)
execute function pgflow.refuse_change();
