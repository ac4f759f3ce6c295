-- Internal, of connect_realtime(), send_event(). Returns whether the database has Supabase's Realtime, and the
-- session may use it. (to_regprocedure() would raise in a session that may not.)
create or replace function pgflow.has_realtime()
returns boolean
language sql stable
set search_path = ''
as $$
  select exists (
    select from pg_catalog.pg_proc p
    join pg_catalog.pg_namespace n on n.oid = p.pronamespace
    where
      n.nspname = 'realtime' and p.proname = 'send'
      and pg_catalog.oidvectortypes(p.proargtypes) = 'jsonb, text, text, boolean'
      and pg_catalog.has_schema_privilege(n.oid, 'usage')
      and pg_catalog.has_function_privilege(p.oid, 'execute')
  )
$$;
