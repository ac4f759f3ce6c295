-- needs functions/seat_key.sql
-- needs functions/worker_tasks.sql

-- Who is alive. A worker that listens has a seat, a number of its own, and holds the advisory lock of
-- that number for as long as its session lasts. Each time it connects again it takes another seat, so
-- nobody who waits for the old one can keep it from coming back.

create sequence pgflow.seats;

create table pgflow.worker_seats (
  worker_id uuid primary key,
  seat bigint not null,
  flow_slugs text[] not null,
  host text not null,
  pid integer not null,
  started_at timestamptz not null default clock_timestamp(),
  connected_at timestamptz not null default clock_timestamp() -- when it took this seat
);

-- For people to read: who is alive, since when, and what each is doing.
create view pgflow.workers as
select
  w.worker_id, w.host, w.pid, w.flow_slugs, w.started_at, w.connected_at,
  exists (
    select from pg_catalog.pg_locks l
    where
      l.locktype = 'advisory' and l.objsubid = 1 and l.granted and l.mode = 'ExclusiveLock'
      and l.database = (select d.oid from pg_catalog.pg_database d where d.datname = current_database())
      and (l.classid::bigint << 32 | l.objid::bigint) = pgflow.seat_key(w.seat)
  ) as alive, -- false until a peer has buried it, or while it connects again
  t.running,
  t.doing -- {"flow.step": tasks}
from pgflow.worker_seats w
cross join lateral (
  select coalesce(sum(n), 0)::integer as running, coalesce(jsonb_object_agg(step, n), '{}') as doing
  from (
    select t.flow_slug || '.' || t.step_slug as step, count(*) as n
    from pgflow.worker_tasks(w.worker_id, w.flow_slugs) t group by 1
  ) s
) t;
