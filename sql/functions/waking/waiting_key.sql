-- Client. Returns the key of the advisory lock that clients share while they wait for a run of this
-- flow.
create or replace function pgflow.waiting_key(flow_slug text)
returns bigint
language sql immutable parallel safe
set search_path = ''
as $$
  select hashtextextended('pgflow.waiting.' || flow_slug, 0)
$$;
