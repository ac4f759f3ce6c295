-- A run may be cancelled.

-- In the order of those who start runs: otherwise one of the two may be chosen to end a deadlock.
lock table pgflow.flows, pgflow.steps, pgflow.runs in access exclusive mode;

alter table pgflow.runs
drop constraint runs_status_check,
add constraint runs_status_check check (status in ('started', 'completed', 'failed', 'cancelled')),
add column cancelled_at timestamptz,
add column cancel_reason text, -- what the caller of cancel_runs() said
add constraint cancel_reason_is_short check (char_length(cancel_reason) <= 1000);
