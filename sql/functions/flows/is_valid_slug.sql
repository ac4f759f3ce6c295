-- Public.
create or replace function pgflow.is_valid_slug(slug text)
returns boolean
language sql immutable parallel safe
set search_path = ''
as $$
  select coalesce(slug ~ '^[a-zA-Z_][a-zA-Z0-9_]{0,127}$' and slug <> 'run', false)
$$;

comment on function pgflow.is_valid_slug is
'Whether a text may be a slug: up to 128 letters, digits and underscores, no digit first, and not the '
'word run. False for null.';
