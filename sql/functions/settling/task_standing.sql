-- Internal, of complete_task(), fail_task(). Locks a task and its run, and says whether the task may be
-- settled now: `open`; `late`, if its run or step does not go on; or `unclaimed`. A task that nobody has
-- claimed may be settled, except in a flow whose queue a worker of pgflow serves. Such a worker settles
-- what it has claimed.
--
-- Raises no_data_found if there is no such task.
create or replace function pgflow.task_standing(run_id uuid, step_slug text, task_index integer)
returns text
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
#variable_conflict use_column
declare
  standing text;
begin
  perform from pgflow.runs r where r.run_id = task_standing.run_id for no key update;
  select
    case
      when
        (select r.status from pgflow.runs r where r.run_id = t.run_id) <> 'started'
        or (
          select s.status from pgflow.step_states s
          where s.run_id = t.run_id and s.step_slug = t.step_slug
        ) is distinct from 'started'
        then 'late'
      when
        t.status = 'queued' and t.started_at is null and pgflow.has_registered_worker(t.flow_slug)
        then 'unclaimed'
      else 'open'
    end
  into standing
  from pgflow.step_tasks t
  where
    t.run_id = task_standing.run_id and t.step_slug = task_standing.step_slug
    and t.task_index = task_standing.task_index
  for no key update;
  if not found then
    raise exception 'unknown task: run %, step "%", index %',
      task_standing.run_id, task_standing.step_slug, task_standing.task_index
      using errcode = 'no_data_found';
  end if;
  return standing;
end
$$;
