-- What is noted beside the engine, and what its journals are compared with.
create schema torture;

-- What a handler did: a commit of its own before its work.
create table torture.effects (
  run_id uuid not null,
  step_slug text not null,
  task_index integer not null,
  attempt integer not null,
  at timestamptz not null default clock_timestamp()
);

-- Each change of status, and each change of what had ended, in the transaction that makes it.
create table torture.changes (
  run_id uuid not null,
  step_slug text, -- null: the run itself
  task_index integer,
  old_status text not null,
  new_status text not null,
  at timestamptz not null default clock_timestamp()
);

create function torture.note_change() returns trigger language plpgsql as $$
begin
  insert into torture.changes (run_id, step_slug, task_index, old_status, new_status)
  values (
    new.run_id, to_jsonb(new) ->> 'step_slug', (to_jsonb(new) ->> 'task_index')::integer,
    old.status, new.status
  );
  return null;
end
$$;

create trigger note_change after update on pgflow.step_tasks for each row
when (old.status <> new.status or (old.status <> 'queued' and old.* is distinct from new.*))
execute function torture.note_change();

create trigger note_change after update on pgflow.runs for each row
when (old.status <> new.status or (old.status <> 'started' and old.* is distinct from new.*))
execute function torture.note_change();

-- The journals, which are loaded at the end.
create table torture.attempts (
  run_id uuid not null, step_slug text not null, task_index integer not null,
  attempt integer not null, pid integer not null, at timestamptz not null
);

create table torture.expected (
  run_id uuid primary key, flow_slug text not null, statuses text[] not null, output jsonb, failing text
);

create table torture.faults (
  kind text not null,
  pid integer, -- of the worker
  at timestamptz not null,
  until timestamptz -- of a crash: when the server was back
);
