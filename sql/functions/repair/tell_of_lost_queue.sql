-- Internal, of make_queue_advance(), make_queue_claim(), queue_tasks(),
-- take_tasks(). Sends a notice that the queue of a
-- flow is lost. A worker writes it to its log.
--
-- It does not raise, because the other flows go on.
create or replace function pgflow.tell_of_lost_queue(flow_slug text)
returns void
language plpgsql
set search_path = ''
set client_min_messages = notice
as $$
begin
  if not exists (select from pgflow.flows f where f.flow_slug = tell_of_lost_queue.flow_slug) then
    raise notice 'there is no flow "%" any more: a worker that starts defines it', flow_slug
    using errcode = 'undefined_table';
    return;
  end if;
  raise notice 'the queue of flow "%" is lost: its tasks wait until `pgflow-events migrate` makes it again', flow_slug
  using errcode = 'undefined_table';
end
$$;
