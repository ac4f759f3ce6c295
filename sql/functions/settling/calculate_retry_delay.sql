-- Public. Seconds until the next attempt: base_delay * 2 ^ attempts_count, at most what fits an integer.
create or replace function pgflow.calculate_retry_delay(base_delay numeric, attempts_count integer)
returns integer
language sql immutable parallel safe
set search_path = ''
as $$
  select floor(least(base_delay * 2 ^ least(attempts_count, 31)::numeric, 2147483647))::integer
$$;

comment on function pgflow.calculate_retry_delay is
'Seconds until the next attempt: base_delay * 2 ^ attempts_count, at most what fits an integer.';
