-- Internal, of start_flows(). Raises unless each of these inputs is a list, for a map goes over it.
create or replace function pgflow.refuse_no_lists(flow_slug text, inputs jsonb[], blob_ids uuid[])
returns void
language plpgsql
set search_path = ''
as $$
declare
  given record;
begin
  for given in
    select i.input, i.blob_id, n from unnest(inputs, blob_ids) with ordinality as i (input, blob_id, n)
  loop
    if given.input is null and given.blob_id is null then
      raise exception 'Flow % has root map steps but input is NULL', flow_slug;
    elsif pgflow.list_length(given.input, given.blob_id) is null then
      raise exception 'Flow % has root map steps but input is not an array (got %)',
        flow_slug, pgflow.value_type(given.input, given.blob_id);
    end if;
  end loop;
end
$$;
