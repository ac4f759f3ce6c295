-- Owner. Returns the condition on the column `message` of a queue that holds for messages of tasks. Any
-- application may send other messages with pgmq.send(). They are left alone.
--
-- It is a text, because calling a function for each message would take longer than reading the message.
create or replace function pgflow.task_messages()
returns text
language sql immutable parallel safe
set search_path = ''
as $$
  select $sql$message ?& '{flow_slug,run_id,step_slug,task_index}' and jsonb_typeof(message) = 'object'$sql$
$$;
