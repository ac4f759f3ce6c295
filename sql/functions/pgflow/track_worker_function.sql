-- Public, as in pgflow. Registers a function that runs workers, or records that it was seen again.
--
-- Example:
--   select pgflow.track_worker_function('scraper');
create or replace function pgflow.track_worker_function(function_name text)
returns void
language sql
set search_path = ''
as $$
  insert into pgflow.worker_functions (function_name) values (track_worker_function.function_name)
  on conflict on constraint worker_functions_pkey do update set updated_at = clock_timestamp()
$$;

comment on function pgflow.track_worker_function is
'Registers in pgflow.worker_functions a function that runs workers, or records that it was seen again.';
