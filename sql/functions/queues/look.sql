-- Internal, of complete_tasks(), take_tasks(). Returns when the next message of each of these flows
-- becomes visible; see next_visible().
create or replace function pgflow.look(flow_slugs text[], later boolean default false)
returns timestamptz[]
language plpgsql
set search_path = ''
as $$
declare
  slug text;
  dues timestamptz[] := array[]::timestamptz[];
begin
  foreach slug in array flow_slugs loop
    dues := dues || (pgflow.next_visible(slug, later)).due;
  end loop;
  return dues;
end
$$;
