-- Internal, of create_flow(), restore_queue(). Creates the queue of a flow and its archive, or the one
-- of the two that is missing. Raises duplicate_table if another application owns one of them.
--
-- pgmq.create() keeps a table that another session has created since we looked. So we look again
-- afterwards: the session that creates a table holds its exclusive lock.
create or replace function pgflow.create_queue(flow_slug text)
returns void
language plpgsql
set search_path = ''
as $$
declare
  lost text[] := pgflow.lost_queue(flow_slug);
begin
  perform pgflow.refuse_foreign_queue(flow_slug);
  perform pgmq.create(flow_slug);
  if exists (
    select from unnest(lost) as t (name)
    where not exists (
      select from pg_catalog.pg_locks l
      where
        l.locktype = 'relation' and l.pid = pg_backend_pid() and l.mode = 'AccessExclusiveLock'
        and l.relation = format('pgmq.%I', t.name)::regclass
    )
  ) then
    perform pgflow.refuse_foreign_queue(flow_slug);
  end if;
  perform pgflow.prepare_queue(flow_slug);
end
$$;
