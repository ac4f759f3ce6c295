-- Internal, of complete_task(), fail_task(), refuse_type(). Archives the message of a task. Nothing
-- happens if it is archived already, or if there is no such task.
create or replace function pgflow._archive_task_message(
  p_run_id uuid,
  p_step_slug text,
  p_task_index integer
)
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
set plan_cache_mode = force_generic_plan
as $$
declare
  task record;
begin
  select t.flow_slug, t.message_id into task
  from pgflow.step_tasks t
  where t.run_id = p_run_id and t.step_slug = p_step_slug and t.task_index = p_task_index limit 1;
  if task.message_id is not null then
    execute format('select pgflow_queues.%I($1)', 'archive_' || pgmq.format_table_name(task.flow_slug, 'q'))
    using array[task.message_id];
  end if;
end
$$;
