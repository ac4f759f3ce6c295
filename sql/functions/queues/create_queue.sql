-- Internal, of create_flow(), restore_queue(). Makes the queue of a flow with its archive, or the one of
-- both that is lost.
--
-- pgmq.create() leaves tables as they are that were made since we looked, or that are about to be committed, so
-- we look whose they are afterwards: whoever has made a table holds it exclusively.
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
