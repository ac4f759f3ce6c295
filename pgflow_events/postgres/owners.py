"""Finds the roles whose code runs in our sessions: the owners of our schemas and what is in them.

Their code runs with the rights of the session. Workers, clients and observers have to trust the
role that migrated. A role with more rights, a superuser or the owner of the database, need not.
"""

import shlex

# The objects of roles that may neither act as this role nor lend it all of their rights. Objects of
# a superuser endanger nobody, and the owner of a database may have installed pgmq for all. A
# superuser counts as a member of every role. There are many functions, so owners are looked up.
STRANGERS = """
with ours as (
  select n.oid, n.nspname from pg_namespace n where n.nspname in ('pgflow', 'pgflow_queues', 'pgmq')
),
things as (
  select 'pg_namespace'::regclass as classid, o.oid as objid, o.nspname from ours o
  union all
  select d.classid, d.objid, o.nspname
  from ours o join pg_depend d on d.refclassid = 'pg_namespace'::regclass and d.refobjid = o.oid
  where d.classid <> 'pg_default_acl'::regclass -- it is no code
)
select format('the %s %s', i.type, i.identity), r.rolname
from pg_roles me
join pg_database d on d.datname = current_database()
cross join things t
join pg_shdepend s
  on s.dbid = d.oid and s.classid = t.classid and s.objid = t.objid and s.objsubid = 0
  and s.deptype = 'o' and s.refclassid = 'pg_authid'::regclass
join pg_roles r on r.oid = s.refobjid
cross join lateral pg_identify_object(t.classid, t.objid, 0) i
where
  me.rolname = current_user and r.oid <> me.oid and not r.rolsuper
  and not pg_has_role(r.oid, me.oid, 'member')
  and (
    me.rolsuper
    or not pg_has_role(me.oid, r.oid, 'usage') and not (t.nspname = 'pgmq' and r.oid = d.datdba)
  )
order by i.type <> 'schema', 1
limit 1
"""


def owned_by_another(name: str, owner: str) -> str:
    """The error about an object that belongs to such a role, with what to do."""
    escaped = owner.replace("\\", "\\\\").replace(" ", "\\ ")
    return (
        f"{name} belongs to the role {owner}, whose code would run with the rights of this one:"
        f" connect as {owner} (PGOPTIONS={shlex.quote(f'-c role={escaped}')} does that for a"
        " superuser), or, if you do not know it, drop what it made or use another database"
    )
