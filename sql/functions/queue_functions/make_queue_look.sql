-- Internal, of make_queue_functions(). Creates the function that looks at the first hundred messages of
-- a queue, from the id `first` on, and stops at one that is visible. It returns when the first of them
-- becomes visible or did. With `later` it ignores visible messages.
create or replace function pgflow.make_queue_look(queue text)
returns void
language plpgsql
set search_path = ''
as $make$
begin
  execute format($sql$
    create or replace function pgflow_queues.%I(
      first bigint, later boolean, seen_at timestamptz,
      out first_id bigint, out seen integer, out due timestamptz, out reappeared boolean
    )
    language plpgsql stable
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set enable_bitmapscan = off
    set enable_sort = off
    set plan_cache_mode = force_generic_plan
    as $$
    declare
      entry record;
    begin
      seen := 0;
      reappeared := false;
      for entry in
        select msg_id, vt, read_ct from pgmq.%I where msg_id >= first and %s
        order by msg_id limit 100
      loop
        seen := seen + 1;
        first_id := coalesce(first_id, entry.msg_id);
        if entry.vt > seen_at then
          due := least(due, entry.vt);
        elsif not later then
          due := entry.vt;
          reappeared := entry.read_ct > 0;
          exit;
        end if;
      end loop;
    end
    $$
  $sql$, 'look_' || queue, queue, pgflow.task_messages());
end
$make$;
