-- Worker. Deletes the bytes of up to qty blobs whose time is over, and of their elements. It stops
-- earlier once these blobs have about 32 MB. Returns how many blobs and stored bytes it deleted.
--
-- The rows stay, and say what the blobs were. Bytes in an object storage are left to a sweep there.
create or replace function pgflow.forget_blobs(
  qty integer,
  out blobs bigint,
  out bytes bigint
)
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
declare
  due uuid[];
begin
  perform pgflow.lock_retention();
  due := array(
    select s.id
    from (
      select b.id, sum(b.stored_size) over (order by b.expires_at, b.id) - b.stored_size as before
      from (
        select b.id, b.expires_at, b.stored_size from pgflow.output_blobs b
        where b.expires_at <= clock_timestamp() and b.forgotten_at is null
        order by b.expires_at limit qty for update skip locked
      ) b
    ) s
    where s.before < 32000000
  );
  -- The elements of the output of a map are outputs of tasks, and have times of their own.
  due := due || array(
    select e.id from pgflow.list_elements(array(
      select b.id from pgflow.output_blobs b where b.id = any(due) and b.task_index >= 0
    )) e
  );
  delete from pgflow.blob_chunks c where c.blob_id = any(due);

  with forgotten as (
    update pgflow.output_blobs b
    set content = null, data_key = null, preview = null, forgotten_at = clock_timestamp()
    where b.id = any(due) and b.forgotten_at is null
    returning b.stored_size
  )
  select count(*), least(coalesce(sum(f.stored_size), 0), 9223372036854775807)::bigint
  into blobs, bytes from forgotten f;
end
$$;
