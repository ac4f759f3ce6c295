-- Outputs and inputs too large to stand in a row. A blob belongs to one run and goes with
-- it; dependents and the run's output name it by its id and never copy it.

create table pgflow.output_blobs (
  id uuid primary key, -- ordered by time, so that the index grows at one end
  run_id uuid not null references pgflow.runs on delete cascade,
  kind text not null check (kind in ('text', 'bytes', 'json')),
  codec text not null, -- 'none', 'zstd'
  content bytea not null,
  raw_size bigint not null check (raw_size >= 0), -- bytes before compression
  sha256 bytea not null, -- of the bytes before compression
  created_at timestamptz not null default clock_timestamp()
);

-- What comes is compressed already: a second compression only costs time.
alter table pgflow.output_blobs alter column content set storage external;

create index output_blobs_by_run on pgflow.output_blobs (run_id);
