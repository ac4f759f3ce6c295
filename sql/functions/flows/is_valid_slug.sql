create or replace function pgflow.is_valid_slug(slug text)
returns boolean
language sql immutable parallel safe
set search_path = ''
as $$
  select coalesce(slug ~ '^[a-zA-Z_][a-zA-Z0-9_]{0,127}$' and slug <> 'run', false)
$$;
