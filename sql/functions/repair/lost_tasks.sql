-- Owner. Returns up to qty tasks of a flow that are queued or started and have no message, so that no
-- worker can claim them (again). It reads all runs of the flow, unless `runs` names some.
--
-- The messages were deleted or archived by hand, or the queue was lost.
create or replace function pgflow.lost_tasks(
  flow_slug text,
  qty integer default null, -- null: all
  runs uuid[] default null -- null: all
)
returns table (run_id uuid, step_slug text, task_index integer)
language plpgsql stable
set search_path = ''
as $$
declare
  queue text := pgmq.format_table_name(flow_slug, 'q');
  -- The id alone is not enough: a queue that was created again may have given it to another task.
  has_message text := format(
    $sql$
      exists (
        select from pgmq.%I m
        where
          m.msg_id = t.message_id and m.message ->> 'run_id' = t.run_id::text
          and m.message ->> 'step_slug' = t.step_slug and m.message ->> 'task_index' = t.task_index::text
      )
    $sql$, queue
  );
begin
  for run_id, step_slug, task_index in execute format(
    $sql$
      select t.run_id, t.step_slug, t.task_index
      from pgflow.runs r join pgflow.step_tasks t on t.run_id = r.run_id
      where
        r.flow_slug = $1 and r.status = 'started' and t.status in ('queued', 'started')
        and t.permanently_stalled_at is null and not %s
        and ($3 is null or r.run_id = any($3))
      limit $2
    $sql$, case when to_regclass(format('pgmq.%I', queue)) is null then 'false' else has_message end
  ) using flow_slug, qty, runs loop
    return next;
  end loop;
end
$$;
