-- Public. Returns the seconds between failed attempt number `attempts_count` and the next attempt:
-- `base_delay * 2 ^ attempts_count`, rounded down. The most is 2147483647, the greatest integer.
--
-- Example:
--   select n as failed_attempts, pgflow.calculate_retry_delay(5, n) as seconds
--   from generate_series(1, 4) as n;
create or replace function pgflow.calculate_retry_delay(base_delay numeric, attempts_count integer)
returns integer
language sql immutable parallel safe
set search_path = ''
as $$
  select floor(least(base_delay * 2 ^ least(attempts_count, 31)::numeric, 2147483647))::integer
$$;

comment on function pgflow.calculate_retry_delay is
'Returns the seconds between failed attempt number attempts_count and the next one: base_delay * 2 ^ '
'attempts_count, at most 2147483647.';
