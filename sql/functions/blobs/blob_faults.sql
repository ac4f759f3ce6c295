-- Owner. Returns what is wrong with blobs: a blob that no run names, a name without a blob, rows and
-- chunks that contradict each other.
--
-- Within one snapshot there is nothing to find. pgflow_events/upkeep/checker.py says how a caller gets
-- one.
create or replace function pgflow.blob_faults()
returns table (blob_id uuid, fault text)
language sql stable
set search_path = ''
set timezone = 'UTC'
as $$
  with named as materialized (
    select n.run_id, n.id, n.place, n.again from pgflow.blob_references() n
  )
  select
    n.id,
    format(
      'run %s names it %s, and %s', n.run_id, n.place,
      case
        when b.id is null then 'there is none'
        when b.sha256 is null then 'it is not finished'
        else format('it is of run %s', b.run_id)
      end
    )
  from named n left join pgflow.output_blobs b on b.id = n.id
  where
    b.sha256 is null and b.id is not null or b.run_id <> n.run_id
    or b.id is null and not exists (
      select from pgflow.dropped_days d
      where
        n.id >= pgflow.first_id(d.day::timestamptz)
        and n.id < pgflow.first_id((d.day + 1)::timestamptz)
    )

  union all

  select b.id, format('run %s does not name it', b.run_id)
  from pgflow.output_blobs b
  where
    b.sha256 is not null
    and not exists (
      select from named n where n.id = b.id and n.run_id = b.run_id and not n.again
    )

  union all

  select b.id, f.fault
  from pgflow.output_blobs b
  left join pgflow.runs r on r.run_id = b.run_id
  left join pgflow.step_tasks t
    on t.run_id = b.run_id and t.step_slug = b.step_slug and t.task_index = b.task_index
  left join pgflow.blob_dictionaries d on d.id = b.dictionary_id
  cross join lateral (
    select case
      when r.run_id is null then format('there is no run %s', b.run_id)
      when not r.has_blobs then format('run %s does not know that it has blobs', b.run_id)
      when b.id not between pgflow.first_blob_id(b.run_id) and pgflow.last_blob_id(b.run_id)
      then format('its id is not made from that of run %s', b.run_id)
      when b.sha256 is null and (t.status in ('queued', 'started')) is not true
      then format(
        'it was begun %s ago and not finished, and step %s of run %s is %s',
        date_trunc(
          'second', clock_timestamp() - greatest(least(b.created_at, clock_timestamp()), '0001-01-01')
        ), b.step_slug, b.run_id,
        coalesce(t.status, 'not there')
      )
      when b.forgotten_at is not null and num_nonnulls(b.content, b.data_key, b.preview) > 0
      then 'it was forgotten, and something of it is there'
      when b.forgotten_at is not null or b.sha256 is null then null
      when num_nulls(b.raw_size, b.stored_size) > 0 then 'its size is not known'
      when (b.chunk_size is null) <> (b.content is not null) then 'it has content and chunks, or neither'
      when length(b.content) <> b.stored_size
      then format('it has %s bytes and not %s', length(b.content), b.stored_size)
      when b.codec = 'none' and b.key_id is null and b.raw_size <> b.stored_size
      then format('it is not compressed, and %s bytes are stored of %s', b.stored_size, b.raw_size)
      when (b.kind = 'list') <> (b.elements is not null) then 'it is a list without elements, or none with'
      when num_nulls(b.key_id, b.data_key) = 1 then 'it has a key without an id, or an id without a key'
      when b.dictionary_id is not null and d.id is null
      then format('there is no dictionary %s', b.dictionary_id)
    end as fault
  ) f
  where f.fault is not null

  union all

  select coalesce(b.id, c.blob_id), f.fault
  from (
    select b.*, (b.raw_size + b.chunk_size - 1) / b.chunk_size as chunks
    from pgflow.output_blobs b where b.chunk_size is not null and b.store is null
  ) b
  full join (
    select c.blob_id, count(*) as n, max(c.seq) as last, sum(length(c.content)) as bytes
    from pgflow.blob_chunks c group by c.blob_id
  ) c on c.blob_id = b.id
  cross join lateral (
    select case
      when b.id is null then format('%s chunks of it are here that have no row', c.n)
      when b.forgotten_at is not null and c.n > 0
      then format('it was forgotten, and %s chunks of it are there', c.n)
      when b.forgotten_at is not null or b.sha256 is null then null
      when coalesce(c.n, 0) <> b.chunks or c.last <> b.chunks - 1
      then format('%s of its %s chunks are there', coalesce(c.n, 0), b.chunks)
      when c.bytes <> b.stored_size
      then format('its chunks have %s bytes and not %s', c.bytes, b.stored_size)
    end as fault
  ) f
  where f.fault is not null
$$;
