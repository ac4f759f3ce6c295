"""Whose code runs in our sessions: that of who owns our schemas, with the rights of the session.

A worker, a client and an observer have to trust whoever has migrated. Who may do more than that
one, a superuser or the owner of the database, need not.
"""

import shlex

# What belongs to a role that may neither act as this one nor lend it all its rights. What is a
# superuser's is no danger to anybody, and who owns a database may have put a pgmq there for all.
# A superuser counts as a member of every role. Owners are looked up, as there are many functions.
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


def refusal(name: str, owner: str) -> str:
    """What to do about something that belongs to such a role."""
    escaped = owner.replace("\\", "\\\\").replace(" ", "\\ ")
    return (
        f"{name} belongs to the role {owner}, whose code would run with the rights of this one:"
        f" connect as {owner} (PGOPTIONS={shlex.quote(f'-c role={escaped}')} does that for a"
        " superuser), or, if you do not know it, drop what it made or use another database"
    )
