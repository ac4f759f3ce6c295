"""A stand-in of Supabase's Realtime: one table and one function, which are all that is called."""

STAND_IN = """
create schema realtime;
create table realtime.messages (
  n bigint generated always as identity,
  payload jsonb, event text, topic text, private boolean,
  inserted_at timestamptz not null default clock_timestamp()
);
create function realtime.send(payload jsonb, event text, topic text, private boolean default true)
returns void language sql as $$
  insert into realtime.messages (payload, event, topic, private)
  values (payload, event, topic, private)
$$;
"""
SENT = "select * from realtime.messages order by n"
TRIGGERS = r"select tgname from pg_trigger where tgname like 'send\_%' order by 1"
