-- The roles that logins are granted; nobody can log in as one of them. They belong to the whole cluster, and
-- what they may do to this database: another one that is migrated at the same time may make them first.
do $$
declare
  missing text;
begin
  for missing in
    select r.name from unnest(array['pgflow_worker', 'pgflow_client', 'pgflow_observer']) as r (name)
    where not exists (select from pg_catalog.pg_roles p where p.rolname = r.name)
  loop
    begin
      execute format('create role %I nologin', missing);
    exception when duplicate_object or unique_violation then
      null;
    end;
  end loop;
end
$$;
