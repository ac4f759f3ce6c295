-- Public. Defines a flow, creates its queue, and returns the flow's row. If the flow exists, the stored
-- row is returned and no option is changed; a lost queue is created again. A null option stands for its
-- default: 3 attempts, a `base_delay` of 5 seconds, a `timeout` of 60. `timeout` is the number of seconds
-- that an attempt may take. After failed attempt n the next one waits `base_delay * 2^n` seconds.
--
-- Raises:
--   23514 check_violation: the slug or an option is not valid.
--   42622 name_too_long: the slug has more than 47 characters.
--   23505 unique_violation: the slug of another flow differs from this one only by case.
--   42P07 duplicate_table: another application owns the queue of this name.
--
-- Example:
--   select flow_slug, opt_max_attempts, opt_base_delay, opt_timeout
--   from pgflow.create_flow('greet', timeout => 30);
create or replace function pgflow.create_flow(
  flow_slug text,
  max_attempts integer default null,
  base_delay integer default null,
  timeout integer default null
)
returns pgflow.flows
language plpgsql
set search_path = ''
set standard_conforming_strings = on -- pgmq's functions rely on it
as $$
#variable_conflict use_column
declare
  namesake text;
  is_new boolean;
  queue text;
  flow pgflow.flows;
begin
  select f.flow_slug into namesake from pgflow.flows f
  where lower(f.flow_slug) = lower(create_flow.flow_slug) and f.flow_slug <> create_flow.flow_slug;
  if found then
    raise exception 'flow slug "%" differs only by case from "%": they would share a queue',
      create_flow.flow_slug, namesake using errcode = 'unique_violation';
  end if;

  if length(create_flow.flow_slug) > 47 then
    raise exception 'flow slug "%" has % characters: the name of its queue may have at most 47',
      create_flow.flow_slug, length(create_flow.flow_slug) using errcode = 'name_too_long';
  end if;
  perform pgflow.refuse_foreign_queue(create_flow.flow_slug);

  insert into pgflow.flows (flow_slug, opt_max_attempts, opt_base_delay, opt_timeout)
  values (
    create_flow.flow_slug, coalesce(create_flow.max_attempts, 3),
    coalesce(create_flow.base_delay, 5), coalesce(create_flow.timeout, 60)
  )
  on conflict (flow_slug) do nothing;
  is_new := found;
  queue := pgmq.format_table_name(create_flow.flow_slug, 'q');
  if is_new and pgflow.lost_queue(create_flow.flow_slug) <> '{}' then
    perform pgflow.create_queue(create_flow.flow_slug);
  elsif
    pgflow.lost_queue(create_flow.flow_slug) <> '{}'
    or to_regproc(format('pgflow_queues.%I', 'advance_' || queue)) is null
  then
    perform pgflow.restore_queue(create_flow.flow_slug);
  end if;
  perform pgflow.connect_realtime();

  select * into strict flow from pgflow.flows f where f.flow_slug = create_flow.flow_slug;
  return flow;
end
$$;

comment on function pgflow.create_flow is
'Defines a flow and creates its queue, or returns the stored flow. timeout: seconds an attempt may '
'take. base_delay: seconds, after failed attempt n the next one waits base_delay * 2^n. Raises if the '
'slug is not valid, or if another application owns a queue of this name.';
