-- Who writes blobs may update theirs, and with it any: the columns that make a blob readable stay as they are
-- once it is finished. A rotation may seal the digest of a sealed blob again, together with its key.
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
  and (
    (old.raw_size, old.stored_size, old.preview)
    is distinct from (new.raw_size, new.stored_size, new.preview)
    or old.sha256 is distinct from new.sha256
    and (old.data_key is null or new.data_key is null or old.data_key = new.data_key)
  )
)
execute function pgflow.refuse_change();
