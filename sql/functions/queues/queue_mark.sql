-- Internal, of foreign_queue(), mark_queue(). The comment on the tables of a queue by which we know that a
-- flow made it. It goes where the table goes, into a dump too, and ends with it: a table of the same name
-- that another application makes has none.
create or replace function pgflow.queue_mark()
returns text
language sql immutable parallel safe
set search_path = ''
as $$
  select 'made by pgflow-events'
$$;
