-- Client. Writes a chunk of an input that open_input() began. Raises invalid_parameter_value if no such
-- input is being written.
create or replace function pgflow.write_input(blob_id uuid, seq integer, content bytea)
returns void
language plpgsql
set search_path = ''
as $$
begin
  perform pgflow.unfinished_input(write_input.blob_id);
  insert into pgflow.blob_chunks (blob_id, seq, content)
  values (write_input.blob_id, write_input.seq, write_input.content);
end
$$;
