-- needs functions/new_id.sql

-- What happens: a run of a flow, the state of each of its steps, the tasks of each step.
--
-- Rows change a few times within their first seconds and then never again. Fillfactor 70
-- and no index on a column that changes keep those changes on their page (HOT).

create table pgflow.runs (
  run_id uuid primary key default pgflow.new_id(),
  flow_slug text not null references pgflow.flows,
  status text not null default 'started' check (status in ('started', 'completed', 'failed')),
  input jsonb not null, -- JSON null when the input is a blob
  input_blob_id uuid,
  output jsonb, -- {leaf step: its output}, without those that are blobs
  output_blobs_refs jsonb, -- {leaf step: id of the blob}
  remaining_steps integer not null default 0 check (remaining_steps >= 0),
  started_at timestamptz not null default clock_timestamp(),
  completed_at timestamptz,
  failed_at timestamptz
) with (fillfactor = 70);

create table pgflow.step_states (
  flow_slug text not null,
  run_id uuid not null references pgflow.runs on delete cascade,
  step_slug text not null,
  status text not null default 'created'
  check (status in ('created', 'started', 'completed', 'failed', 'cancelled')),
  remaining_tasks integer not null default 1 check (remaining_tasks >= 0),
  remaining_deps integer not null default 0 check (remaining_deps >= 0),
  created_at timestamptz not null default clock_timestamp(),
  started_at timestamptz,
  completed_at timestamptz,
  failed_at timestamptz,
  primary key (run_id, step_slug)
) with (fillfactor = 70);

create table pgflow.step_tasks (
  flow_slug text not null,
  run_id uuid not null references pgflow.runs on delete cascade,
  step_slug text not null,
  task_index integer not null default 0,
  message_id bigint,
  -- A task being worked on is still queued; started_at and worker_id tell that it is.
  status text not null default 'queued'
  check (status in ('queued', 'completed', 'failed', 'cancelled')),
  attempts_count integer not null default 0 check (attempts_count >= 0),
  error_message text, -- of the last attempt that failed
  output jsonb, -- null when the output is a blob
  output_blob_id uuid,
  worker_id uuid,
  queued_at timestamptz not null default clock_timestamp(), -- moves when it is queued again
  started_at timestamptz, -- of the attempt under way
  completed_at timestamptz,
  failed_at timestamptz,
  primary key (run_id, step_slug, task_index)
) with (fillfactor = 70);

-- Message ids repeat across queues, so only the pair tells a task. The id comes first: without
-- statistics, a plan would look up the flow alone and read all it ever did.
create index step_tasks_by_message on pgflow.step_tasks (message_id, flow_slug);

-- Task and message in one row: what a poll hands to a worker.
create type pgflow.step_task_record as (
  flow_slug text,
  run_id uuid,
  step_slug text,
  input jsonb, -- {"run": input of the run, dependency: its output}, without blobs
  msg_id bigint,
  task_index integer,
  attempts_count integer,
  timeout integer, -- seconds the attempt may take
  blobs_refs jsonb -- {"run" or dependency: id of the blob}, the rest of the input
);
