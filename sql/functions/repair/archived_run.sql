-- Internal, of delete_archived(), old_messages(). Returns the run of an archived message, or null if the
-- message names none. Such a message is not from a task.
create or replace function pgflow.archived_run(message jsonb)
returns uuid
language sql immutable parallel safe
set search_path = ''
as $$
  select
    case
      when message ->> 'run_id' ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$'
      then (message ->> 'run_id')::uuid
    end
$$;
