-- Internal, of make_queue_functions(). Creates the function that sends messages to a queue. A message
-- with a timeout (in seconds) is hidden as a claim would hide it.
--
-- pgmq.send_batch() cannot do this: it has one delay for all of its messages.
create or replace function pgflow.make_queue_send(queue text)
returns void
language plpgsql
set search_path = ''
as $make$
begin
  execute format($sql$
    create or replace function pgflow_queues.%I(timeouts integer[], messages jsonb[])
    returns bigint[]
    language plpgsql
    set search_path = pg_catalog, pg_temp
    as $$
    declare
      ids bigint[];
    begin
      with sent as (
        insert into pgmq.%I (vt, read_ct, message)
        select
          clock_timestamp() + make_interval(secs => coalesce(t.timeout + 2.0, 0)),
          (t.timeout is not null)::integer, t.message
        from unnest(timeouts, messages) as t (timeout, message)
        returning msg_id
      )
      select array_agg(msg_id order by msg_id) into ids from sent;
      return ids;
    end
    $$
  $sql$, 'send_' || queue, queue);
end
$make$;
