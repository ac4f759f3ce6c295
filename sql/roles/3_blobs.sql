-- Keeps the columns that make a finished blob readable as they are. A worker must update these columns
-- of its own unfinished blobs, and so it may update them in any row. A rotation of keys may seal the
-- digest of a sealed blob again, together with its key.
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

-- Keeps a run's input as its client stored it. When the run has ended, the time until which the input is
-- kept may be set.
create or replace function pgflow.refuse_input_change()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
declare
  blob pgflow.output_blobs := case tg_op when 'INSERT' then new else old end;
begin
  if
    not pg_has_role(
      (select c.relowner from pg_catalog.pg_class c where c.oid = 'pgflow.output_blobs'::regclass), 'usage'
    )
    and exists (
      select from pgflow.runs r
      where r.run_id = blob.run_id and (tg_op <> 'UPDATE' or r.status = 'started')
    )
  then
    raise exception 'blob % is the input of a run that exists: it stays as it is', blob.id
      using errcode = 'insufficient_privilege';
  end if;
  return case tg_op when 'DELETE' then old else new end;
end
$$;

create or replace trigger refuse_input_insert
before insert on pgflow.output_blobs
for each row when (new.step_slug = 'run') execute function pgflow.refuse_input_change();

create or replace trigger refuse_input_expiry
before update of expires_at on pgflow.output_blobs
for each row when (old.step_slug = 'run') execute function pgflow.refuse_input_change();

create or replace trigger refuse_input_delete
before delete on pgflow.output_blobs
for each row when (old.step_slug = 'run') execute function pgflow.refuse_input_change();

-- Refuses an input whose run does not start in the same transaction: it would be left behind for ever.
create or replace function pgflow.refuse_lone_input()
returns trigger
language plpgsql
security definer
set search_path = pg_catalog, pg_temp
set enable_seqscan = off
as $$
begin
  if
    not pg_has_role(session_user, current_user, 'usage')
    and not exists (select from pgflow.runs r where r.run_id = new.run_id and r.has_blobs)
  then
    raise exception 'blob % is the input of run %, which was not started on it', new.id, new.run_id
      using errcode = 'integrity_constraint_violation';
  end if;
  return null;
end
$$;

do $$
begin
  if not exists (
    select from pg_catalog.pg_trigger t
    where t.tgrelid = 'pgflow.output_blobs'::regclass and t.tgname = 'refuse_lone_input'
  ) then
    create constraint trigger refuse_lone_input
    after insert on pgflow.output_blobs
    deferrable initially deferred
    for each row when (new.step_slug = 'run') execute function pgflow.refuse_lone_input();
  end if;
end
$$;

-- Keeps has_blobs true once it is: because of it, the blobs of a run are deleted with the run.
create or replace function pgflow.refuse_leaving_blobs()
returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  raise exception 'run % has blobs, and keeps them', old.run_id using errcode = 'insufficient_privilege';
end
$$;

create or replace trigger refuse_leaving_blobs
before update of has_blobs on pgflow.runs
for each row when (old.has_blobs and not new.has_blobs) execute function pgflow.refuse_leaving_blobs();
