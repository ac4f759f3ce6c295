-- What the invariants compare, once all has ended.
create index on torture.attempts (run_id, step_slug, task_index, attempt);
create index on torture.effects (run_id, step_slug, task_index, attempt);
create index on torture.changes (run_id, step_slug, task_index);
create index on torture.messages (flow_slug, msg_id);

-- Numbers of attempts that ran more than once. Two things may do that: a crash of the server between
-- the two starts, since a claim's commit does not wait for the disk; and a worker that was told to end
-- after the first of them, and gave its task back as if it had never been claimed.
create table torture.doubles as
select
  d.run_id, d.step_slug, d.task_index, d.attempt, d.pids, d.starts,
  case
    when exists (
      select from torture.faults f
      where f.kind = 'crash' and f.at < d.starts[2] and d.starts[1] < f.until
    ) then 'a crash'
    when exists (
      select from torture.faults f
      where f.kind = 'SIGTERM' and f.pid = d.pids[1] and f.at < d.starts[2]
    ) then 'given back'
  end as excuse
from (
  select
    a.run_id, a.step_slug, a.task_index, a.attempt,
    array[a.at, lead(a.at) over w] as starts, array[a.pid, lead(a.pid) over w] as pids
  from torture.attempts a
  window w as (partition by a.run_id, a.step_slug, a.task_index, a.attempt order by a.at)
) d
where d.starts[2] is not null;

analyze torture.attempts, torture.effects, torture.changes, torture.messages, torture.expected,
  torture.doubles, pgflow.runs, pgflow.step_states, pgflow.step_tasks;
