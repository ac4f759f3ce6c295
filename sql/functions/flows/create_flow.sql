-- Public. Defines a flow and makes its queue. A flow that exists is returned as it is.
create or replace function pgflow.create_flow(
  flow_slug text,
  max_attempts integer default 3,
  base_delay integer default 5,
  timeout integer default 60
)
returns pgflow.flows
language plpgsql
set search_path = ''
set standard_conforming_strings = on -- pgmq's functions are written for it
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
    or to_regproc(format('pgflow_queues.%I', 'send_' || queue)) is null
  then
    perform pgflow.restore_queue(create_flow.flow_slug);
  end if;

  select * into strict flow from pgflow.flows f where f.flow_slug = create_flow.flow_slug;
  return flow;
end
$$;

comment on function pgflow.create_flow is
'Defines a flow and makes its queue, or returns the flow that is stored. Options are in seconds: '
'base_delay before the second attempt, timeout of an attempt. Raises if the slug is not valid, or if '
'another application has a queue of this name.';
