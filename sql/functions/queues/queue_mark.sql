-- Internal, of foreign_queue(), mark_queue(). Returns the comment on the tables of a queue by which we
-- know that a flow made them. The comment goes where its table goes, also into a dump, and ends with it.
-- A table of the same name that another application makes has no such comment.
create or replace function pgflow.queue_mark()
returns text
language sql immutable parallel safe
set search_path = ''
as $$
  select 'made by pgflow-events'
$$;
