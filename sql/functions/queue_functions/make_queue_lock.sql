-- Internal, of make_queue_functions(). Creates the function that locks up to qty visible messages of a
-- queue, from the id `first` on, and skips those that another session has locked.
create or replace function pgflow.make_queue_lock(queue text)
returns void
language plpgsql
set search_path = ''
as $make$
begin
  execute format($sql$
    create or replace function pgflow_queues.%I(first bigint, qty integer)
    returns bigint[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set enable_bitmapscan = off -- read only the head of the queue, in the order of ids
    set enable_sort = off
    set plan_cache_mode = force_generic_plan
    as $$
    begin
      return array(
        select msg_id from pgmq.%I where msg_id >= first and vt <= clock_timestamp() and %s
        order by msg_id limit qty for update skip locked
      );
    end
    $$
  $sql$, 'lock_' || queue, queue, pgflow.task_messages());
end
$make$;
