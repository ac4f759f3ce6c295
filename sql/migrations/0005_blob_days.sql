-- needs functions/new_blob_id.sql
-- needs functions/first_id.sql
-- needs functions/blob_partition.sql
-- needs functions/add_partition.sql
-- needs functions/lock_retention.sql
-- needs functions/ensure_blob_days.sql

-- Blobs by days, in chunks, sealed, elsewhere, forgotten. A blob's id begins with the first half of its
-- run's id, which begins with the time the run started: the blobs of a run lie side by side in the
-- partition of that day, are found by a range of ids, and go with the day at no cost.

alter table pgflow.output_blobs rename to output_blobs_before;
alter index pgflow.output_blobs_pkey rename to output_blobs_before_pkey;

create table pgflow.output_blobs (
  id uuid primary key,
  run_id uuid not null,
  step_slug text not null, -- whose output it is; 'run': the input
  task_index integer not null default 0,
  kind text not null check (kind in ('text', 'bytes', 'json', 'list')),
  media_type text, -- null: what goes for all of this kind
  codec text not null, -- of content or of each chunk: 'none', 'zstd'
  dictionary_id integer, -- that it was compressed with
  key_id text, -- of the key that data_key is sealed with
  data_key bytea, -- what content, chunks and sha256 are sealed with
  store text, -- where the chunks are kept; null: here
  chunk_size integer check (chunk_size > 0), -- bytes of each chunk but the last; null: all is in content
  content bytea,
  elements uuid[], -- of a list: the blobs of its elements, null where one stands in content
  raw_size bigint check (raw_size >= 0), -- bytes before compression; null while it is being written
  stored_size bigint check (stored_size >= 0),
  sha256 bytea, -- of the bytes before compression
  preview text, -- the first characters of a text or JSON
  created_at timestamptz not null default clock_timestamp(),
  expires_at timestamptz, -- known once the run has ended
  forgotten_at timestamptz -- the row stays, the bytes are gone
) partition by range (id);

create table pgflow.blob_chunks (
  blob_id uuid not null,
  seq integer not null check (seq >= 0),
  content bytea not null,
  primary key (blob_id, seq)
) partition by range (blob_id);

-- What comes is compressed already: a second compression only costs time.
alter table pgflow.output_blobs alter column content set storage external;
alter table pgflow.blob_chunks alter column content set storage external;

create index output_blobs_by_expiry on pgflow.output_blobs (expires_at)
where expires_at is not null and forgotten_at is null;
create index output_blobs_by_dictionary on pgflow.output_blobs (dictionary_id)
where dictionary_id is not null;

create table pgflow.output_blobs_default partition of pgflow.output_blobs default;
create table pgflow.blob_chunks_default partition of pgflow.blob_chunks default;
select pgflow.ensure_blob_days();

-- Days whose blobs were dropped. Runs that still name one of these blobs are about to be deleted too.
create table pgflow.dropped_days (
  day date primary key,
  dropped_at timestamptz not null default clock_timestamp()
);

create table pgflow.blob_dictionaries (
  id integer primary key generated always as identity,
  flow_slug text not null,
  step_slug text not null,
  content bytea not null,
  samples integer not null, -- outputs it was trained on
  created_at timestamptz not null default clock_timestamp(),
  foreign key (flow_slug, step_slug) references pgflow.steps (flow_slug, step_slug)
);

alter table pgflow.runs add column has_blobs boolean not null default false;
alter table pgflow.step_tasks
add column input_bytes bigint not null default 0; -- of the blobs that its handler loads
alter type pgflow.step_task_record add attribute input_bytes bigint;
alter type pgflow.claim_record add attribute next_bytes bigint; -- input_bytes of the first visible task
alter type pgflow.queued_task add attribute input_bytes bigint;
alter type pgflow.settled_task add attribute retried boolean; -- more than one attempt was made

-- They take more parameters now.
drop function if exists
pgflow.claim_tasks(text[], integer, uuid),
pgflow.complete_tasks(
  uuid[], text[], integer[], integer[], jsonb[], uuid[], text[], boolean[], text[], integer, uuid
),
pgflow.count_down(pgflow.settled_task[]),
pgflow.next_due(text[]),
pgflow.queue_tasks(text, uuid[], text[], integer[], uuid),
pgflow.settle_tasks(
  uuid[], text[], integer[], integer[], jsonb[], uuid[], text[], boolean[], integer, uuid
),
pgflow.start_steps(uuid[], integer, uuid),
pgflow.take_messages(text, integer, uuid),
pgflow.take_tasks(text[], integer, uuid);

-- Seconds after the end of its run for which an output is kept; null: as long as the run.
alter table pgflow.flows add column opt_keep_output integer check (opt_keep_output >= 0);
alter table pgflow.steps
add column opt_keep_output integer check (opt_keep_output >= 0),
add column opt_loads text[]; -- the inputs ('run', dependencies) its handler has in memory; null: all

-- What is there already moves, under ids of the new form.

create temporary table moved on commit drop as
select
  b.id as old_id, pgflow.new_blob_id(b.run_id) as id, b.run_id,
  coalesce(t.step_slug, 'run') as step_slug, coalesce(t.task_index, 0) as task_index
from pgflow.output_blobs_before b
left join pgflow.step_tasks t on t.run_id = b.run_id and t.output_blob_id = b.id;

insert into pgflow.output_blobs (
  id, run_id, step_slug, task_index, kind, codec, content, raw_size, stored_size, sha256, created_at
)
select
  m.id, m.run_id, m.step_slug, m.task_index, b.kind, b.codec, b.content, b.raw_size, length(b.content),
  b.sha256, b.created_at
from moved m join pgflow.output_blobs_before b on b.id = m.old_id;

update pgflow.step_tasks t set output_blob_id = m.id from moved m where t.output_blob_id = m.old_id;

update pgflow.runs r
set
  has_blobs = true,
  input_blob_id = (select m.id from moved m where m.old_id = r.input_blob_id),
  output_blobs_refs = (
    select jsonb_object_agg(o.key, m.id)
    from jsonb_each_text(r.output_blobs_refs) o join moved m on m.old_id = o.value::uuid
  )
where r.run_id in (select m.run_id from moved m);

drop table pgflow.output_blobs_before;

-- What is stored, for people.
create view pgflow.blobs as
select
  b.id, r.flow_slug, b.run_id, b.step_slug, b.task_index, b.kind,
  coalesce(
    b.media_type,
    case b.kind when 'text' then 'text/plain' when 'bytes' then 'application/octet-stream'
      else 'application/json' end
  ) as media_type,
  b.codec, b.dictionary_id,
  b.key_id, b.store, b.raw_size, b.stored_size,
  case when b.chunk_size is not null then (b.raw_size + b.chunk_size - 1) / b.chunk_size end as chunks,
  cardinality(b.elements) as elements, b.preview, b.created_at, b.expires_at, b.forgotten_at
from pgflow.output_blobs b left join pgflow.runs r using (run_id);
