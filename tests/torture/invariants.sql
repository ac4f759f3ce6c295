-- Each query finds what must not be; its first line names the invariant. Together they say that
-- nothing was lost, and nothing done twice unseen.

-- name: a run that was started is not there
select e.run_id from torture.expected e left join pgflow.runs r using (run_id) where r.run_id is null;

-- name: a run is there that nobody started
select r.run_id from pgflow.runs r left join torture.expected e using (run_id) where e.run_id is null;

-- name: a run has not ended
select r.run_id, r.flow_slug from pgflow.runs r where r.status = 'started';

-- name: a run ended in a state that is not right
select r.run_id, r.flow_slug, r.status, t.step_slug, t.error_message
from pgflow.runs r join torture.expected e using (run_id)
left join pgflow.step_tasks t on t.run_id = r.run_id and t.status = 'failed'
where r.status <> all(e.statuses) and r.status <> 'started';

-- name: a run has an output that is not right
select r.run_id, r.flow_slug, r.output, e.output as expected
from pgflow.runs r join torture.expected e using (run_id)
where r.status = 'completed' and r.output is distinct from e.output;

-- name: a run failed in another step than it had to
select s.run_id, s.flow_slug, s.step_slug, s.error_message
from pgflow.step_states s join torture.expected e using (run_id)
where s.status = 'failed' and s.step_slug is distinct from e.failing;

-- name: a step and its run do not agree
select s.run_id, s.step_slug, s.status, s.remaining_tasks, s.remaining_deps, r.status as run
from pgflow.step_states s join pgflow.runs r using (run_id)
where
  r.status = 'completed' and s.status <> 'skipped'
  and (s.status, s.remaining_tasks, s.remaining_deps) <> ('completed', 0, 0)
  or r.status = 'failed' and s.status = 'started';

-- name: a run and its count of steps do not agree
select r.run_id, r.status, r.remaining_steps, s.n
from pgflow.runs r
join (
  select s.run_id, count(*) filter (where s.status not in ('completed', 'skipped')) as n from pgflow.step_states s
  group by s.run_id
) s using (run_id)
where r.remaining_steps <> s.n;

-- name: a task and its step do not agree
select s.run_id, s.step_slug, s.status, t.status as task
from pgflow.step_states s
join pgflow.steps o on o.flow_slug = s.flow_slug and o.step_slug = s.step_slug
left join pgflow.step_tasks t on t.run_id = s.run_id and t.step_slug = s.step_slug
where
  o.step_type = 'single' and s.status <> 'skipped'
  and case when s.status = 'created' then null when s.status = 'started' then 'queued' else s.status end
  is distinct from t.status
  or s.status = 'skipped' and t.status = 'queued';

-- name: a map and its tasks do not agree
select s.run_id, s.step_slug, s.status, s.initial_tasks, s.remaining_tasks, s.queued_tasks, s.lost_tasks, t.*
from pgflow.step_states s
join pgflow.steps o on o.flow_slug = s.flow_slug and o.step_slug = s.step_slug
cross join lateral (
  select
    count(*) as n, count(distinct t.task_index) as indexes, max(t.task_index) as last,
    count(*) filter (where t.status = 'completed') as completed,
    count(*) filter (where t.status = 'failed') as failed
  from pgflow.step_tasks t where t.run_id = s.run_id and t.step_slug = s.step_slug
) t
where
  o.step_type = 'map'
  and (
    (t.n, t.n) <> (t.indexes, coalesce(t.last, -1) + 1)
    or coalesce(s.queued_tasks, 0) <> t.n
    or s.status = 'completed' and (t.completed + t.failed, t.failed)
      is distinct from (s.initial_tasks::bigint, coalesce(s.lost_tasks, 0)::bigint)
  );

-- name: the output of a map is not that of its tasks in their order
select s.run_id, s.step_slug, s.output, s.output_blob_id, t.outputs, t.ids
from pgflow.step_states s
join pgflow.steps o on o.flow_slug = s.flow_slug and o.step_slug = s.step_slug
cross join lateral (
  select
    coalesce(jsonb_agg(coalesce(t.output, 'null') order by t.task_index), '[]') as outputs,
    array_agg(t.output_blob_id order by t.task_index) as ids
  from pgflow.step_tasks t where t.run_id = s.run_id and t.step_slug = s.step_slug
) t
left join pgflow.output_blobs b on b.id = s.output_blob_id
where
  o.step_type = 'map' and s.status = 'completed'
  and case
    when s.output_blob_id is null then s.output
    when b.elements = t.ids then convert_from(b.content, 'UTF8')::jsonb
  end is distinct from t.outputs;

-- name: an element is there twice, or of another map
select e.run_id, e.step_slug, e.first_index, s.initial_tasks
from pgflow.map_elements e
left join pgflow.step_states s using (run_id, step_slug)
where
  s.initial_tasks is null or e.first_index + jsonb_array_length(e.elements) > s.initial_tasks
  or exists (
    select from pgflow.map_elements o
    where
      o.run_id = e.run_id and o.step_slug = e.step_slug and o.first_index > e.first_index
      and o.first_index < e.first_index + jsonb_array_length(e.elements)
  );

-- name: a task that had ended was changed
select c.run_id, c.step_slug, c.task_index, c.old_status, c.new_status, c.at from torture.changes c
where c.step_slug is not null and c.old_status <> 'queued';

-- name: a task ended unseen, or twice
select t.run_id, t.step_slug, t.task_index, t.status, count(c.*) as changes
from pgflow.step_tasks t
left join torture.changes c
  on c.run_id = t.run_id and c.step_slug = t.step_slug and c.task_index = t.task_index
  and c.new_status = t.status
where t.status <> 'queued'
group by t.run_id, t.step_slug, t.task_index, t.status having count(c.*) <> 1;

-- name: a run that had ended was changed, or ended twice
select c.run_id, c.old_status, c.new_status, c.at from torture.changes c
where c.step_slug is null and c.old_status <> 'started';

-- name: a run ended unseen, or twice
select r.run_id, r.status, count(c.*) as changes
from pgflow.runs r left join torture.changes c on c.run_id = r.run_id and c.step_slug is null
where r.status <> 'started' group by r.run_id, r.status having count(c.*) <> 1;

-- name: an attempt number ran twice
select d.run_id, d.step_slug, d.task_index, d.attempt, d.pids, d.starts from torture.doubles d
where d.excuse is null;

-- name: a task was completed by an attempt that never ran
select t.run_id, t.step_slug, t.attempts_count
from pgflow.step_tasks t
left join torture.attempts a
  on a.run_id = t.run_id and a.step_slug = t.step_slug and a.task_index = t.task_index
  and a.attempt = t.attempts_count
where t.status = 'completed' and a.run_id is null;

-- name: a task has the output of another attempt than its last
select t.run_id, t.step_slug, t.attempts_count, t.output
from pgflow.step_tasks t
where
  t.status = 'completed' and t.output ->> 'attempt' is not null
  and (t.output ->> 'attempt')::integer <> t.attempts_count;

-- name: an attempt ran of a task that is not there
select a.run_id, a.step_slug, a.attempt
from torture.attempts a left join pgflow.step_tasks t using (run_id, step_slug, task_index)
where t.run_id is null;

-- name: an effect of a completed task was lost
select t.run_id, t.step_slug, t.attempts_count
from pgflow.step_tasks t
left join torture.effects e
  on e.run_id = t.run_id and e.step_slug = t.step_slug and e.task_index = t.task_index
  and e.attempt = t.attempts_count
where t.status = 'completed' and e.run_id is null and t.step_slug <> 'second'; -- in a thread

-- name: an effect is there of an attempt that never ran
select e.run_id, e.step_slug, e.attempt
from torture.effects e left join torture.attempts a using (run_id, step_slug, task_index, attempt)
where a.run_id is null;

-- name: a task had more attempts than it may have
select t.run_id, t.step_slug, t.attempts_count, a.attempt as ran
from pgflow.step_tasks t
join pgflow.steps s using (flow_slug, step_slug) join pgflow.flows f using (flow_slug)
left join (
  select a.run_id, a.step_slug, a.task_index, max(a.attempt) as attempt from torture.attempts a
  group by a.run_id, a.step_slug, a.task_index
) a using (run_id, step_slug, task_index)
where
  greatest(t.attempts_count, a.attempt) > coalesce(s.opt_max_attempts, f.opt_max_attempts);

-- name: a message is queued whose task is not
select m.flow_slug, m.msg_id, t.run_id, t.status
from torture.messages m
left join pgflow.step_tasks t on t.flow_slug = m.flow_slug and t.message_id = m.msg_id
where not m.archived and t.status is distinct from 'queued';

-- name: a task is queued whose message is not
select t.run_id, t.step_slug, t.message_id from pgflow.step_tasks t
where
  t.status = 'queued' and not exists (
    select from torture.messages m
    where m.flow_slug = t.flow_slug and m.msg_id = t.message_id and not m.archived
  );

-- name: a message is not archived once for the task that ended
select t.run_id, t.step_slug, t.message_id, count(m.*) as messages
from pgflow.step_tasks t
left join torture.messages m
  on m.flow_slug = t.flow_slug and m.msg_id = t.message_id and m.archived
where t.status <> 'queued'
group by t.run_id, t.step_slug, t.task_index, t.message_id having count(m.*) <> 1;

-- name: a message is archived of no task that ended
select m.flow_slug, m.msg_id, t.status
from torture.messages m
left join pgflow.step_tasks t on t.flow_slug = m.flow_slug and t.message_id = m.msg_id
where m.archived and (t.run_id is null or t.status = 'queued');

-- name: a message does not say what its task is
select m.flow_slug, m.msg_id, m.message
from torture.messages m
join pgflow.step_tasks t on t.flow_slug = m.flow_slug and t.message_id = m.msg_id
where
  m.message <> jsonb_build_object(
    'flow_slug', t.flow_slug, 'run_id', t.run_id, 'step_slug', t.step_slug, 'task_index', t.task_index
  );
