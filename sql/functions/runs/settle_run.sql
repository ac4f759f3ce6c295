-- Internal, of settle_tasks(), start_flows(). Goes on with a run whose steps are not all plain: gives completed maps their
-- outputs, skips steps whose conditions are not met, completes steps without tasks, starts those that are
-- ready, and completes the run if no step remains. The caller has locked the run.
--
-- The first tasks of the steps that start become visible after `delay` seconds.
create or replace function pgflow.settle_run(run_id uuid, delay double precision default 0)
returns void
language plpgsql
set search_path = ''
set enable_seqscan = off
as $$
begin
  perform from pgflow.runs r where r.run_id = settle_run.run_id and r.status = 'started';
  if not found then
    return;
  end if;
  perform pgflow.finish_maps(run_id);
  loop
    if not (pgflow.learn_sizes(run_id) and pgflow.cascade_resolve_conditions(run_id)) then
      return;
    end if;
    exit when pgflow.cascade_complete_taskless_steps(run_id) = 0;
  end loop;
  perform pgflow.start_steps(run_id, delay);
  perform pgflow.fill_windows(run_id);
  perform pgflow.maybe_complete_run(run_id);
end
$$;
