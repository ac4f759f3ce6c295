-- A step may be a map, which has a task for each element of a list. It may be skipped, and may start late.

-- In the order of those who start runs: otherwise one of the two may be chosen to end a deadlock.
lock table pgflow.flows, pgflow.steps, pgflow.deps, pgflow.runs, pgflow.step_states, pgflow.step_tasks
in access exclusive mode;

alter table pgflow.steps
drop constraint steps_step_type_check,
add constraint steps_step_type_check check (step_type in ('single', 'map')),
alter column step_index set default 0,
add column opt_start_delay integer, -- seconds; null: none
add column required_input_pattern jsonb, -- the step runs if its input contains this
add column forbidden_input_pattern jsonb, -- and does not contain this
add column when_unmet text not null default 'skip',
add column when_exhausted text not null default 'fail', -- what follows when no attempt is left
add column opt_tolerate real, -- the share of a map's elements that may be lost; null: none
-- Whether the step and all steps before it have none of these options. Such steps take the short way.
add column is_plain boolean not null default true,
add constraint opt_start_delay_is_nonnegative check (opt_start_delay >= 0),
add constraint required_input_pattern_is_object check (jsonb_typeof(required_input_pattern) = 'object'),
add constraint forbidden_input_pattern_is_object check (jsonb_typeof(forbidden_input_pattern) = 'object'),
add constraint when_unmet_is_valid check (when_unmet in ('fail', 'skip', 'skip-cascade')),
add constraint when_exhausted_is_valid check (when_exhausted in ('fail', 'skip', 'skip-cascade')),
add constraint opt_tolerate_is_share check (opt_tolerate between 0 and 1);

alter table pgflow.runs
add column is_plain boolean not null default true; -- all of its steps are

alter table pgflow.step_states
drop constraint step_states_status_check,
add constraint step_states_status_check
check (status in ('created', 'started', 'completed', 'failed', 'cancelled', 'skipped')),
alter column remaining_tasks drop not null,
add column initial_tasks integer default 1, -- null: not known yet
add column queued_tasks integer, -- how many tasks there are so far; null if the step is plain
add column lost_tasks integer, -- of a map: how many of them failed and were tolerated
add column output jsonb, -- of a map, or where complete_task() was called
add column output_blob_id uuid, -- of a map
add column facts jsonb, -- {step that depends on it: {"required": boolean, "forbidden": boolean}}
add column error_message text,
add column skip_reason text,
add column skipped_at timestamptz,
add constraint initial_tasks_known_when_started check (status <> 'started' or initial_tasks is not null),
add constraint step_states_initial_tasks_check check (initial_tasks >= 0),
add constraint skip_reason_is_valid
check (skip_reason in ('condition_unmet', 'dependency_skipped', 'handler_failed')),
add constraint output_only_for_completed_or_null check (output is null or status = 'completed');

alter table pgflow.step_tasks
drop constraint step_tasks_status_check,
-- Only start_tasks() writes 'started'. Our own workers claim a task that stays queued.
add constraint step_tasks_status_check
check (status in ('queued', 'started', 'completed', 'failed', 'cancelled', 'skipped')),
add column last_worker_id uuid,
add column requeued_count integer not null default 0,
add column last_requeued_at timestamptz,
add column permanently_stalled_at timestamptz;

-- The elements of the list that a map goes through. A row has those from first_index on: in `elements` they
-- are JSON, or null if they are blobs; then `blob_ids` has their ids.
create table pgflow.map_elements (
  run_id uuid not null,
  step_slug text not null, -- the map
  first_index integer not null,
  elements jsonb not null,
  blob_ids uuid[],
  primary key (run_id, step_slug, first_index)
);

alter type pgflow.step_task_record add attribute flow_input jsonb;
alter type pgflow.advanced_flow add attribute unsettled uuid[]; -- runs that settle_run() has to go on with

-- They have more parameters from now on.
drop function if exists
pgflow.start_flow(text, jsonb),
pgflow.start_flows(text, jsonb[], uuid[], uuid[]),
pgflow.add_step(text, text, text[], integer, integer, integer),
pgflow.complete_tasks(
  uuid[], text[], integer[], integer[], jsonb[], uuid[], text[], boolean[], text[], integer, uuid, bigint
),
pgflow.settle_tasks(
  uuid[], text[], integer[], integer[], jsonb[], uuid[], text[], boolean[], integer, uuid, bigint
);

alter type pgflow.counted_step add attribute refills boolean; -- a map has room in its window for more tasks

do $$
declare
  function regprocedure;
begin
  for function in
    select p.oid::regprocedure from pgflow.flows f
    join pg_catalog.pg_proc p on p.proname = format('start_%s', pgmq.format_table_name(f.flow_slug, 'q'))
    where p.pronamespace = to_regnamespace('pgflow_queues')
  loop
    execute format('drop function %s', function);
  end loop;
end
$$;
