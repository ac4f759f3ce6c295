-- needs functions/is_valid_slug.sql

-- What is defined: a flow, its steps, and which step waits for which.

create table pgflow.flows (
  flow_slug text primary key,
  opt_max_attempts integer not null default 3,
  opt_base_delay integer not null default 1, -- seconds
  opt_timeout integer not null default 60, -- seconds
  opt_blob_threshold integer not null default 8192, -- bytes of JSON
  created_at timestamptz not null default clock_timestamp(),
  constraint slug_is_valid check (pgflow.is_valid_slug(flow_slug)),
  constraint opt_max_attempts_is_nonnegative check (opt_max_attempts >= 0),
  constraint opt_base_delay_is_nonnegative check (opt_base_delay >= 0),
  constraint opt_timeout_is_positive check (opt_timeout > 0),
  constraint opt_blob_threshold_is_nonnegative check (opt_blob_threshold >= 0)
);

-- pgmq lowers the case of queue names: "Foo" and "foo" would share one queue.
create unique index flows_queue_key on pgflow.flows (lower(flow_slug));

create table pgflow.steps (
  flow_slug text not null references pgflow.flows,
  step_slug text not null check (pgflow.is_valid_slug(step_slug)),
  step_type text not null default 'single' check (step_type = 'single'),
  step_index integer not null, -- in order of definition, from 0
  deps_count integer not null default 0 check (deps_count >= 0),
  opt_max_attempts integer check (opt_max_attempts >= 0), -- null: as the flow has it
  opt_base_delay integer check (opt_base_delay >= 0),
  opt_timeout integer check (opt_timeout > 0),
  opt_blob_threshold integer check (opt_blob_threshold >= 0),
  created_at timestamptz not null default clock_timestamp(),
  primary key (flow_slug, step_slug),
  unique (flow_slug, step_index)
);

create table pgflow.deps (
  flow_slug text not null references pgflow.flows,
  dep_slug text not null, -- the dependency
  step_slug text not null, -- the dependent
  created_at timestamptz not null default clock_timestamp(),
  primary key (flow_slug, dep_slug, step_slug),
  foreign key (flow_slug, dep_slug) references pgflow.steps (flow_slug, step_slug),
  foreign key (flow_slug, step_slug) references pgflow.steps (flow_slug, step_slug),
  check (dep_slug <> step_slug)
);

create index deps_by_step on pgflow.deps (flow_slug, step_slug);
