-- Worker. Returns the channel of a flow: the one that wakes workers (topic 'tasks'), that has them stop
-- handlers (topic 'stopped'), or that wakes clients that wait for a run (topic 'runs'). It contains a hash,
-- because LISTEN cuts names at 63 bytes and slugs may be longer.
create or replace function pgflow.channel(topic text, flow_slug text)
returns text
language sql immutable parallel safe
set search_path = ''
as $$
  select 'pgflow_' || topic || '_' || left(md5('pgflow.' || flow_slug), 16)
$$;
