-- Creates the roles that operators grant to logins. They cannot log in themselves. Roles belong to the
-- whole cluster, and their rights to this database. If another database is migrated at the same time, it
-- may create them first.
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
