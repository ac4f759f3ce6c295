-- Internal, of make_queue_functions(). Creates the function that moves messages of a queue to its
-- archive, with every column that this version of pgmq has in both.
create or replace function pgflow.make_queue_archive(queue text)
returns void
language plpgsql
set search_path = ''
as $make$
declare
  archive text := overlay(queue placing 'a' from 1 for 1);
  columns text := (
    select string_agg(quote_ident(q.attname), ', ')
    from pg_catalog.pg_attribute q join pg_catalog.pg_attribute a using (attname)
    where
      q.attrelid = format('pgmq.%I', queue)::regclass and q.attnum > 0 and not q.attisdropped
      and a.attrelid = format('pgmq.%I', archive)::regclass
  );
begin
  execute format($sql$
    create or replace function pgflow_queues.%I(ids bigint[])
    returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
    as $$
    begin
      if to_regclass(%L) is null then -- the queue is lost
        return;
      end if;
      if to_regclass(%L) is null then -- the archive is lost
        delete from pgmq.%I where msg_id = any(ids) and %s;
        return;
      end if;
      with gone as (delete from pgmq.%I where msg_id = any(ids) and %s returning %s)
      insert into pgmq.%I (%s) select %s from gone;
    end
    $$
  $sql$, 'archive_' || queue, format('pgmq.%I', queue), format('pgmq.%I', archive), queue, pgflow.task_messages(), queue, pgflow.task_messages(), columns, archive, columns, columns);
end
$make$;
