-- Public, as in pgflow. Whether this is the database of Supabase's local development: whether the setting
-- app.settings.jwt_secret has the value that its documentation gives for that.
--
-- Example:
--   select pgflow.is_local();
create or replace function pgflow.is_local()
returns boolean
language sql stable
set search_path = ''
as $$
  select coalesce(
    current_setting('app.settings.jwt_secret', true)
    = 'super-secret-jwt-token-with-at-least-32-characters-long',
    false
  )
$$;

comment on function pgflow.is_local is
'Whether this is the database of Supabase''s local development.';
