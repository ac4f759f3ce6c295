-- Internal, of delete_runs(). Returns up to qty runs with an id after `after` that ended before
-- `older_than`, in the order of their ids. Runs that another session has locked, and runs that started
-- on one of `busy_days`, are left out.
--
-- An id contains the time at which it was made, which is before its run ends. So a run that ended before
-- `older_than` has an id from before that time. The exception is an id that says nothing: it is random,
-- or its time is in the future. A random id is nearly always in the future or before `older_than`, and is
-- found in either range.
create or replace function pgflow.old_runs(
  older_than timestamptz,
  after uuid,
  qty integer,
  busy_days date[]
)
returns setof uuid
language plpgsql
set search_path = ''
set timezone = 'UTC'
set enable_seqscan = off
as $$
declare
  bounds uuid[];
  found_before integer := 0;
begin
  foreach bounds slice 1 in array array[
    array['00000000-0000-0000-0000-000000000000', pgflow.first_id(older_than)::text],
    array[
      pgflow.first_id(clock_timestamp())::text, 'ffffffff-ffff-ffff-ffff-ffffffffffff'
    ]
  ]::uuid[] loop
    return query
    select r.run_id from pgflow.runs r
    where
      r.run_id between greatest(bounds[1], after) and bounds[2]
      and r.run_id is distinct from after
      and r.status <> 'started' and coalesce(r.completed_at, r.failed_at, r.cancelled_at) < older_than
      and not exists (
        select from unnest(busy_days) as d (day)
        where
          r.run_id >= pgflow.first_id(d.day::timestamptz)
          and r.run_id < pgflow.first_id((d.day + 1)::timestamptz)
      )
    order by r.run_id limit qty - found_before for update skip locked;
    get diagnostics found_before = row_count;
  end loop;
end
$$;
