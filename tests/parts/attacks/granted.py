"""What the catalogue says of the rights of the three roles, as docs/operate/security.md says it."""

ROLES = ("pgflow_worker", "pgflow_client", "pgflow_observer")

# A right to all columns is one to the table; else the columns are named, or those left out.
TABLES = """
select c.relname as object, r.rolname as role, p.what as privilege,
  case
    when has_table_privilege(r.oid, c.oid, p.what) then ''
    when count(*) filter (where g.granted) > count(*) / 2 then
      ' but ' || string_agg(c.name, ', ' order by c.name) filter (where not g.granted)
    else ' ' || string_agg(c.name, ', ' order by c.name) filter (where g.granted)
  end as columns
from (
  select c.oid, c.relname, a.attnum, format('`%%s`', a.attname) as name
  from pg_class c join pg_attribute a on a.attrelid = c.oid
  where
    c.relnamespace = 'pgflow'::regnamespace and c.relkind in ('r', 'p', 'v')
    and a.attnum > 0 and not a.attisdropped
) c
cross join pg_roles r
cross join unnest(
  array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger']
) with ordinality as p (what, n)
cross join lateral (
  select case
    when p.what in ('delete', 'truncate', 'trigger') then has_table_privilege(r.oid, c.oid, p.what)
    else has_column_privilege(r.oid, c.oid, c.attnum, p.what)
  end as granted
) g
where r.rolname = any(%s)
group by c.relname, c.oid, r.rolname, r.oid, p.what, p.n
having bool_or(g.granted)
order by c.relname, r.rolname, p.n
"""

FUNCTIONS = """
select p.proname as name, r.rolname as role from pg_proc p cross join pg_roles r
where p.pronamespace = 'pgflow'::regnamespace and p.prorettype <> 'trigger'::regtype
  and r.rolname = any(%s) and has_function_privilege(r.oid, p.oid, 'execute')
"""

ALL_FUNCTIONS = """
select p.proname as name from pg_proc p
where p.pronamespace = 'pgflow'::regnamespace and p.prorettype <> 'trigger'::regtype
"""

# Schemas, sequences, and what is in pgmq of a flow `f`; what a right to columns gives counts too.
OTHERS = """
select o.object, r.rolname as role, o.privilege, '' as columns
from pg_roles r
cross join lateral (
  select format('schema `%%s`', n.nspname) as object, p.what as privilege, p.n
  from pg_namespace n cross join unnest(array['usage', 'create']) with ordinality as p (what, n)
  where
    n.nspname in ('pgflow', 'pgflow_queues', 'pgmq')
    and has_schema_privilege(r.oid, n.oid, p.what)
  union all
  select format('sequence `%%s`', c.oid::regclass), p.what, p.n
  from pg_class c
  cross join unnest(array['usage', 'select', 'update']) with ordinality as p (what, n)
  where
    c.relnamespace in ('pgflow'::regnamespace, 'pgmq'::regnamespace) and c.relkind = 'S'
    and has_sequence_privilege(r.oid, c.oid, p.what)
  union all
  select format('`%%s`', c.oid::regclass), p.what, p.n
  from pg_class c
  cross join unnest(
    array['select', 'insert', 'update', 'delete', 'truncate', 'references', 'trigger']
  ) with ordinality as p (what, n)
  where
    c.relnamespace = 'pgmq'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')
    and case
      when p.what in ('delete', 'truncate', 'trigger')
      then has_table_privilege(r.oid, c.oid, p.what)
      else has_any_column_privilege(r.oid, c.oid, p.what)
    end
  union all
  select 'functions of `pgflow_queues`', 'execute', 1
  where exists (
    select from pg_proc p
    where
      p.pronamespace = 'pgflow_queues'::regnamespace
      and has_function_privilege(r.oid, p.oid, 'execute')
      and has_schema_privilege(r.oid, p.pronamespace, 'usage')
  )
) o
where r.rolname = any(%s)
order by 1, 2, o.n
"""
