-- Internal, of send_run_event(), send_step_event(). Returns the payload of an event, given a row of runs or
-- step_states, without values that may be blobs. `kind` is `run` or `step`.
create or replace function pgflow.event_payload(kind text, change jsonb)
returns jsonb
language sql immutable parallel safe
set search_path = ''
as $$
  select jsonb_build_object('event_type', kind || ':' || (change ->> 'status')) || (
    select jsonb_object_agg(k, change -> k)
    from unnest(
      array['run_id', 'flow_slug', 'step_slug', 'status'] || case kind || ':' || (change ->> 'status')
        when 'run:started' then array['remaining_steps', 'started_at']
        when 'step:started' then array['started_at', 'remaining_tasks', 'remaining_deps']
        when 'step:skipped' then array['skipped_at', 'skip_reason', 'error_message']
        when 'step:failed' then array['failed_at', 'error_message']
        when 'run:failed' then array['failed_at']
        else array['completed_at'] || case
          -- It had no tasks, so no event has said that it started.
          when change ->> 'initial_tasks' = '0' then array['started_at', 'remaining_tasks', 'remaining_deps']
          else array[]::text[]
        end
      end
    ) as k
    where change ->> k is not null
  )
$$;
