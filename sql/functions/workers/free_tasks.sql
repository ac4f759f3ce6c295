-- Internal, of bury_worker(). Makes the tasks visible that a worker has claimed and not settled, among
-- those of these flows. Their attempts stay counted. Returns the flows that had such tasks.
--
-- If another session has locked a message, it is claiming or settling the task just now, and the message
-- is left alone. A message that was claimed again before we could lock it has another worker by then.
-- Only a statement that begins after the lock sees that.
create or replace function pgflow.free_tasks(worker_id uuid, flow_slugs text[])
returns text[]
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
#variable_conflict use_column
declare
  slug text;
  queue text;
  ids bigint[];
  freed text[] := array[]::text[];
begin
  foreach slug in array flow_slugs loop
    ids := array(select t.message_id from pgflow.worker_tasks(free_tasks.worker_id, array[slug]) t);
    continue when ids = '{}';
    queue := pgmq.format_table_name(slug, 'q');
    execute format(
      $sql$
        select coalesce(array_agg(m.msg_id), '{}') from (
          select msg_id from pgmq.%I where msg_id = any($1) for update skip locked
        ) m
      $sql$, queue
    ) into ids using ids;
    ids := array(
      select m.id from unnest(ids) as m (id)
      where exists (
        select from pgflow.step_tasks t
        where
          t.message_id = m.id and t.flow_slug = slug and t.status = 'queued'
          and t.worker_id = free_tasks.worker_id
      )
    );
    continue when ids = '{}';
    execute format('update pgmq.%I set vt = clock_timestamp() where msg_id = any($1)', queue) using ids;
    freed := freed || slug;
  end loop;
  return freed;
end
$$;
