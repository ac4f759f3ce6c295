-- Owner. The condition on the column `message` of a queue by which its messages are those of tasks. Anybody
-- may send others with pgmq.send(): they are left alone. It is a text, since to call a function for each
-- message would cost more than to read the message.
create or replace function pgflow.task_messages()
returns text
language sql immutable parallel safe
set search_path = ''
as $$
  select $sql$message ?& '{flow_slug,run_id,step_slug,task_index}' and jsonb_typeof(message) = 'object'$sql$
$$;
