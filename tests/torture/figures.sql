-- What was done and survived.
-- name: done
select
  (select count(*) from pgflow.runs) as runs,
  (select count(*) from pgflow.runs where status = 'failed') as "runs that failed, as they had to",
  (select count(*) from pgflow.step_tasks where status <> 'queued') as tasks,
  (select count(*) from torture.attempts) as attempts,
  (
    select count(*) from torture.attempts a
    join pgflow.step_tasks t using (run_id, step_slug, task_index)
    where t.status = 'completed' and a.attempt < t.attempts_count
  ) as "attempts before the one that counted",
  (select count(*) from torture.doubles where excuse = 'a crash')
  as "attempt numbers that ran twice for a crash in between",
  (select count(*) from torture.doubles where excuse = 'given back')
  as "attempt numbers that were given back and ran again",
  (
    select count(*) from torture.attempts a join pgflow.step_tasks t using (run_id, step_slug, task_index)
    where a.attempt = t.attempts_count and a.at > t.completed_at
  ) as "attempts that began after their task was completed",
  (
    select count(distinct f.at) from torture.faults f
    where f.kind = 'SIGKILL' and exists (
      select from torture.attempts a join pgflow.step_tasks t using (run_id, step_slug, task_index)
      where a.pid = f.pid and a.at < f.at and (t.attempts_count > a.attempt or t.completed_at > f.at)
    )
  ) as "SIGKILLs with a task in hand",
  (select count(*) from pgflow.output_blobs) as blobs,
  (select count(*) from pgflow.blob_chunks) as chunks;

-- name: recovery
-- Seconds from the moment when the server takes connections again to the first task that is completed.
select extract(epoch from (
  select min(c.at) from torture.changes c
  where c.step_slug is not null and c.new_status = 'completed' and c.at > f.until
) - f.until)::float8
from torture.faults f where f.kind = 'crash';

-- name: handover
-- Seconds from SIGKILL to the next attempt of each task that the worker had in hand.
select extract(epoch from b.at - f.at)::float8
from torture.faults f
join torture.attempts a on a.pid = f.pid and a.at < f.at
join lateral (
  select min(b.at) as at from torture.attempts b
  where b.run_id = a.run_id and b.step_slug = a.step_slug and b.task_index = a.task_index
    and b.attempt = a.attempt + 1
) b on b.at > f.at
where
  f.kind = 'SIGKILL'
  and a.step_slug <> 'third' -- which waits before it is tried again
  and not exists ( -- else the timeouts find them
    select from torture.faults c
    where c.kind = 'crash' and c.at < b.at and c.until > f.at
  );
