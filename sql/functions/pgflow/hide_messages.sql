-- Internal, of start_tasks(). Hides messages of a flow from now on, each for its timeout and 2 seconds.
-- They count as read, or nobody would look at them when they reappear.
create or replace function pgflow.hide_messages(flow_slug text, ids bigint[], timeouts integer[])
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  queue text := pgmq.format_table_name(flow_slug, 'q');
begin
  if to_regclass(format('pgmq.%I', queue)) is not null then -- else the queue is lost
    execute format(
      $sql$
        update pgmq.%I
        set
          vt = clock_timestamp() + make_interval(secs => ($2)[array_position($1, msg_id)] + 2.0),
          read_ct = greatest(read_ct, 1)
        where msg_id = any($1)
      $sql$, queue
    ) using ids, timeouts;
  end if;
end
$$;
