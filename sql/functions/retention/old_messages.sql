-- Internal, of prunable(). Returns how many archived messages of a flow delete_archived() would delete,
-- once the runs that ended before `older_than` are deleted.
create or replace function pgflow.old_messages(flow_slug text, older_than timestamptz)
returns bigint
language plpgsql stable
set search_path = ''
as $$
declare
  archive text := pgmq.format_table_name(flow_slug, 'a');
  messages bigint;
begin
  if to_regclass(format('pgmq.%I', archive)) is null then -- the archive is lost
    return 0::bigint;
  end if;
  execute format(
    $sql$
      select count(*) from pgmq.%I m
      where
        m.archived_at < $1 and %s
        and not exists (
          select from pgflow.runs r
          where
            r.run_id = pgflow.archived_run(m.message)
            and (r.status = 'started' or coalesce(r.completed_at, r.failed_at, r.cancelled_at) >= $1)
        )
    $sql$, archive, pgflow.task_messages()
  ) into messages using older_than;
  return messages;
end
$$;
