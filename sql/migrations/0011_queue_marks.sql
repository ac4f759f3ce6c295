-- needs functions/queue_mark.sql
-- needs functions/mark_queue.sql
-- needs functions/task_messages.sql

-- From now on we know by a comment which queues flows have made. Of those that are there, a queue is its flow's if
-- it was made together with the flow, or has never held a message of anybody else.
do $$
declare
  flow record;
  is_own boolean;
begin
  for flow in
    select f.flow_slug, t.queue, t.archive
    from pgflow.flows f
    cross join lateral (
      select
        format('pgmq.%I', pgmq.format_table_name(f.flow_slug, 'q')) as queue,
        format('pgmq.%I', pgmq.format_table_name(f.flow_slug, 'a')) as archive
    ) t
    where to_regclass(t.queue) is not null and to_regclass(t.archive) is not null
  loop
    select exists (
      select from pgmq.meta m
      where
        m.queue_name = flow.flow_slug
        and m.xmin in (
          select f.xmin from pgflow.flows f where f.flow_slug = flow.flow_slug
          union all select s.xmin from pgflow.steps s where s.flow_slug = flow.flow_slug
          union all select d.xmin from pgflow.deps d where d.flow_slug = flow.flow_slug
        )
    ) into is_own;
    if not is_own then
      execute format(
        $sql$
          select not exists (select from %1$s where (%3$s) is not true)
            and not exists (select from %2$s where (%3$s) is not true)
        $sql$, flow.queue, flow.archive, pgflow.task_messages()
      ) into is_own;
    end if;
    if is_own then
      perform pgflow.mark_queue(flow.flow_slug);
    end if;
  end loop;
end
$$;

-- Which release wrote the SQL that is here; see sql/RELEASE.
alter table pgflow.schema_files
add column release integer,
add column version text;
