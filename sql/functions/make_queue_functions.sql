-- Writes the functions that say to the queue of a flow what claims and completions say all the time. A
-- queue is a table of its own, and a text that names it is planned anew each time it is executed, for
-- longer than it takes then: these keep their plans.
--
-- Each is called `<what it does>_<table of the queue>`.
create or replace function pgflow.make_queue_functions(flow_slug text)
returns void
language plpgsql
set search_path = ''
as $make$
declare
  queue text := pgmq.format_table_name(flow_slug, 'q');
  archive text := pgmq.format_table_name(flow_slug, 'a');
  columns text := ( -- of this pgmq
    select string_agg(quote_ident(q.attname), ', ')
    from pg_catalog.pg_attribute q join pg_catalog.pg_attribute a using (attname)
    where
      q.attrelid = format('pgmq.%I', queue)::regclass and q.attnum > 0 and not q.attisdropped
      and a.attrelid = format('pgmq.%I', archive)::regclass
  );
begin
  -- Sends messages; one with a timeout is hidden as a claim hides. (pgmq.send_batch() has one delay for
  -- all.)
  execute format($sql$
    create or replace function pgflow_queues.%I(timeouts integer[], messages jsonb[])
    returns bigint[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
    as $$
    declare
      ids bigint[];
    begin
      with sent as (
        insert into pgmq.%I (vt, read_ct, message)
        select
          clock_timestamp() + make_interval(secs => coalesce(t.timeout + 2.0, 0)),
          (t.timeout is not null)::integer, t.message
        from unnest(timeouts, messages) as t (timeout, message)
        returning msg_id
      )
      select array_agg(msg_id order by msg_id) into ids from sent;
      return ids;
    end
    $$
  $sql$, 'send_' || queue, queue);

  execute format($sql$
    create or replace function pgflow_queues.%I(ids bigint[])
    returns void
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set plan_cache_mode = force_generic_plan
    as $$
    begin
      with gone as (delete from pgmq.%I where msg_id = any(ids) returning %s)
      insert into pgmq.%I (%s) select %s from gone;
    end
    $$
  $sql$, 'archive_' || queue, queue, columns, archive, columns, columns);

  -- Locks up to qty visible messages that nobody else holds, from the id `first` on.
  execute format($sql$
    create or replace function pgflow_queues.%I(first bigint, qty integer)
    returns bigint[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
    set enable_seqscan = off
    set enable_bitmapscan = off -- the head of a queue is read in order, and no more of it
    set enable_sort = off
    set plan_cache_mode = force_generic_plan
    as $$
    begin
      return array(
        select msg_id from pgmq.%I where msg_id >= first and vt <= clock_timestamp()
        order by msg_id limit qty for update skip locked
      );
    end
    $$
  $sql$, 'lock_' || queue, queue);

  -- Hides messages that were claimed for these timeouts.
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

  -- Looks at the first hundred messages from the id `first` on, up to one that is visible; of those that
  -- are not, at the earliest. With `later` it passes over visible ones.
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
      message record;
    begin
      seen := 0;
      reappeared := false;
      for message in
        select msg_id, vt, read_ct from pgmq.%I where msg_id >= first order by msg_id limit 100
      loop
        seen := seen + 1;
        first_id := coalesce(first_id, message.msg_id);
        if message.vt > seen_at then
          due := least(due, message.vt);
        elsif not later then
          due := message.vt;
          reappeared := message.read_ct > 0;
          exit;
        end if;
      end loop;
    end
    $$
  $sql$, 'look_' || queue, queue);
end
$make$;

-- Those of the flows there are, and of one that is being defined just now.
lock table pgflow.flows in share mode;
select pgflow.make_queue_functions(f.flow_slug) from pgflow.flows f
where to_regclass(format('pgmq.%I', pgmq.format_table_name(f.flow_slug, 'q'))) is not null;
