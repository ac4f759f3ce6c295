-- Owner. Deletes up to qty archived messages of a flow that were archived before `older_than`. Returns
-- how many.
--
-- Messages of runs that still exist stay, however old: a run that goes on may have archived some of its
-- messages long ago.
create or replace function pgflow.delete_archived(
  flow_slug text,
  older_than timestamptz,
  qty integer
)
returns bigint
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
declare
  archive text := pgmq.format_table_name(flow_slug, 'a');
  deleted bigint;
begin
  if to_regclass(format('pgmq.%I', archive)) is null then -- the archive is lost
    return 0::bigint;
  end if;
  execute format(
    $sql$
      delete from pgmq.%1$I where msg_id = any(
        array(
          select m.msg_id from pgmq.%1$I m
          where
            m.archived_at < $1 and %2$s
            and not exists (
              select from pgflow.runs r where r.run_id = pgflow.archived_run(m.message)
            )
          order by m.archived_at limit $2
        )
      )
    $sql$, archive, pgflow.task_messages()
  ) using older_than, qty;
  get diagnostics deleted = row_count;
  return deleted;
end
$$;
