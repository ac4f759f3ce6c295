-- Public. Returns whether a text may be the slug of a flow or step: 1 to 128 letters (A to Z), digits
-- and underscores, not beginning with a digit, and not the word `run`. Null gives false. The slug of a
-- flow may have 47 characters at most, which `create_flow()` checks.
--
-- Example:
--   select slug, pgflow.is_valid_slug(slug) from unnest(array['greet', '2nd', 'run']) as slug;
create or replace function pgflow.is_valid_slug(slug text)
returns boolean
language sql immutable parallel safe
set search_path = ''
as $$
  select coalesce(slug ~ '^[a-zA-Z_][a-zA-Z0-9_]{0,127}$' and slug <> 'run', false)
$$;

comment on function pgflow.is_valid_slug is
'Returns whether a text may be a slug: 1 to 128 letters, digits and underscores, not beginning with a '
'digit, and not the word run. Null gives false.';
