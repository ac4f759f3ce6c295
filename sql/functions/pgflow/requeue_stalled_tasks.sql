-- Public, as in pgflow. Queues started tasks again that gave no answer for 30 seconds after their
-- timeout, and returns how many. The attempt counts. A task that stalls for the fourth time keeps its
-- status, gets permanently_stalled_at, and its message is archived. It concerns what start_tasks() has
-- started: the workers of this package notice by themselves what became of their tasks.
--
-- Example:
--   select pgflow.requeue_stalled_tasks();
create or replace function pgflow.requeue_stalled_tasks()
returns integer
language plpgsql
set search_path = ''
as $$
declare
  slug text;
  requeued integer := 0;
begin
  for slug in select f.flow_slug from pgflow.flows f order by f.flow_slug loop
    requeued := requeued + pgflow.requeue_stalled_tasks_of(slug);
  end loop;
  return requeued;
end
$$;

comment on function pgflow.requeue_stalled_tasks is
'Queues started tasks again that gave no answer for 30 seconds after their timeout, three times at most, and '
'returns how many. It concerns what start_tasks() has started.';
