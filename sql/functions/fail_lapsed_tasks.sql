-- Fails the tasks whose last attempt gave no answer before its message became visible again. Returns
-- how many. A worker that dies at each attempt would else be followed by another for ever.
create or replace function pgflow.fail_lapsed_tasks(flow_slugs text[])
returns integer
language plpgsql
set search_path = ''
set enable_seqscan = off
set pgflow.notify = 'on'
as $$
declare
  slug text;
  reappeared bigint[];
  lapsed record;
  failed integer := 0;
begin
  foreach slug in array flow_slugs loop
    execute format(
      $sql$
        select array_agg(m.msg_id) filter (where m.read_ct > 0) from (
          select msg_id, read_ct from pgmq.%I where vt <= clock_timestamp() order by msg_id limit 100
        ) m
      $sql$, pgmq.format_table_name(slug, 'q')
    ) into reappeared;
    continue when reappeared is null;

    select
      array_agg(t.run_id) as run_ids, array_agg(t.step_slug) as step_slugs,
      array_agg(t.task_index) as task_indexes, array_agg(t.attempts_count) as attempts,
      array_agg(
        format('attempt %s gave no answer within its %s seconds', t.attempts_count,
          coalesce(s.opt_timeout, f.opt_timeout))
      ) as error_messages,
      count(*)::integer as n
    into lapsed
    from pgflow.step_tasks t
    join pgflow.steps s on s.flow_slug = t.flow_slug and s.step_slug = t.step_slug
    join pgflow.flows f on f.flow_slug = t.flow_slug
    where
      t.flow_slug = slug and t.message_id = any(reappeared) and t.status = 'queued'
      and t.attempts_count >= greatest(coalesce(s.opt_max_attempts, f.opt_max_attempts), 1);
    continue when lapsed.n = 0;

    perform pgflow.settle_tasks(
      lapsed.run_ids, lapsed.step_slugs, lapsed.task_indexes, lapsed.attempts,
      array_fill(null::jsonb, array[lapsed.n]), array_fill(null::uuid, array[lapsed.n]),
      lapsed.error_messages, array_fill(true, array[lapsed.n])
    );
    failed := failed + lapsed.n;
  end loop;
  return failed;
end
$$;
