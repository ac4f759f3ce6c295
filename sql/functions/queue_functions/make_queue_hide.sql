-- Internal, of make_queue_functions(). Creates the function that hides claimed messages, each for its
-- timeout (in seconds) and 2 seconds.
create or replace function pgflow.make_queue_hide(queue text)
returns void
language plpgsql
set search_path = ''
as $make$
begin
  execute format($sql$
    create or replace function pgflow_queues.%I(ids bigint[], timeouts integer[])
    returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
    as $$
    begin
      update pgmq.%I
      set
        vt = clock_timestamp() + make_interval(secs => timeouts[array_position(ids, msg_id)] + 2.0),
        read_ct = read_ct + 1
      where msg_id = any(ids);
    end
    $$
  $sql$, 'hide_' || queue, queue);
end
$make$;
