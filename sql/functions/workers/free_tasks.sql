-- Internal, of bury_worker(). Makes visible what a worker has claimed and not settled, among the tasks of
-- these flows; returns the flows that had any. The attempts remain counted.
--
-- A message that another session holds is being claimed or settled just now: it is left alone. One
-- that was claimed anew before it could be locked has another worker by now, which only a statement
-- that begins after the lock sees.
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
