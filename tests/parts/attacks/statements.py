"""What logins may not do, a statement a line; each of these users has another role."""

WORKER, CLIENT, OBSERVER, NOBODY = "wanda", "clio", "otto", "paul"

# Nobody but the owner does these.
DESTRUCTION = """
drop schema pgflow cascade
drop table pgflow.runs
drop table pgmq.a_f
drop function pgflow.start_flow
truncate pgflow.runs
truncate pgflow.step_tasks
truncate pgmq.q_f
alter table pgflow.runs add column mine integer
alter table pgflow.runs disable trigger all
alter table pgflow.output_blobs detach partition pgflow.output_blobs_default
alter function pgflow.start_flows owner to current_user
alter function pgflow.claim_tasks security definer
create or replace trigger mine after insert on pgflow.runs execute function pgflow.delete_chunks()
create index on pgflow.runs (status)
create table pgflow.mine ()
create table pgmq.mine ()
create table public.mine ()
create function pgflow.mine() returns void language sql as ''
create function public.upper(jsonb) returns text language sql return ''
create schema mine
select pgmq.create('mine')
select pgmq.drop_queue('f')
select pgmq.purge_queue('payments')
select pgmq.send('payments', '{}')
select from pgmq.q_payments
select pgflow.delete_runs(now(), null, 10, '{}')
select pgflow.ensure_flow_compiled('f', '{"steps": []}', true)
select pgflow.delete_archived('f', now(), 10)
select pgflow.delete_dictionaries()
select pgflow.drop_blob_day(current_date, now())
select pgflow.add_partition('runs (); drop table pgflow.runs; --', '2000-01-01', null, null)
select pgflow.lock_blob_day(current_date)
select pgflow.grant_queue('payments')
select pgflow.create_queue('mine')
select pgflow.adopt_queue('payments')
select pgflow.mark_queue('payments')
select pgflow.prepare_queue('payments')
select pgflow.restore_queue('f')
select pgflow.raise_queue_ids('f')
select pgflow.requeue_lost_tasks('f')
comment on table pgmq.q_payments is 'made by pgflow-events'
delete from pgflow.runs
delete from pgflow.step_states
delete from pgflow.step_tasks
delete from pgflow.flows
delete from pgflow.steps
delete from pgflow.deps
delete from pgmq.a_f
delete from pgflow.dropped_days
update pgflow.runs set input = '1'
update pgflow.runs set run_id = gen_random_uuid()
update pgflow.flows set flow_slug = 'g'
update pgflow.steps set step_index = 7
update pgflow.blob_chunks set content = ''
update pgflow.blob_dictionaries set content = ''
update pgflow.output_blobs set content = ''
update pgflow.output_blobs set data_key = ''
update pgflow.output_blobs set run_id = gen_random_uuid()
update pgflow.output_blobs set step_slug = 'a'
update pgflow.output_blobs set elements = '{}'
update pgflow.output_blobs set forgotten_at = now()
delete from pgflow.blob_chunks
update pgflow.worker_seats set started_at = 'infinity'
insert into pgflow.worker_seats values (gen_random_uuid(), 0, '{}', '', 1, 'infinity')
update pgmq.a_f set message = '{}'
insert into pgflow.runs (flow_slug, input) values ('f', '1')
insert into pgflow.step_states (flow_slug, run_id, step_slug) values ('f', gen_random_uuid(), 'a')
insert into pgflow.blob_dictionaries values (default, 'f', 'a', '', 1)
insert into pgflow.schema_files values ('migrations/0001_flows.sql', '')
update pgflow.schema_files set checksum = ''
grant pgflow_worker to current_user
set role olga
set session authorization olga
alter default privileges for role olga grant all on tables to public
lock table pgflow.runs in access exclusive mode
comment on schema pgflow is 'mine'
""".strip().splitlines()

# A client neither.
WORK = """
select pgflow.define_flow('{"flow_slug": "g", "steps": []}')
select pgflow.create_flow('g')
select pgflow.add_step('f', 'b')
insert into pgflow.flows (flow_slug) values ('g')
insert into pgflow.deps (flow_slug, dep_slug, step_slug) values ('f', 'a', 'b')
update pgflow.flows set opt_timeout = 1
update pgflow.steps set opt_max_attempts = 1
update pgflow.runs set status = 'failed'
update pgflow.runs set output = '{}'
update pgflow.step_states set status = 'failed'
update pgflow.step_tasks set output = '1'
insert into pgflow.step_tasks (flow_slug, run_id, step_slug) values ('f', gen_random_uuid(), 'a')
insert into pgmq.q_f (vt, message) values (now(), '{}')
update pgmq.q_f set vt = now()
delete from pgmq.q_f
delete from pgflow.output_blobs
delete from pgflow.worker_seats
update pgflow.output_blobs set sha256 = ''
update pgflow.output_blobs set expires_at = now()
update pgflow.runs set has_blobs = true
insert into pgflow.output_blobs (id, run_id, step_slug, kind, codec) values (null, null, '', '', '')
insert into pgflow.blob_chunks (blob_id, seq, content) values (gen_random_uuid(), 0, '')
select from pgflow.runs for update
select from pgflow.runs for key share
select from pgflow.output_blobs for key share
select pgflow.open_blob(null, null, null, 0, 0, null, null, null, null, null, null, 0)
select pgflow.write_chunk(gen_random_uuid(), 0, '')
select pgflow.finish_blob(gen_random_uuid(), 0, 0, 0, '', '')
select pgflow.claim_tasks(array['f'], 1, gen_random_uuid(), null)
select pgflow.poll_for_tasks('f', 1, 1, 0)
select pgflow.complete_task('00000000-0000-7000-8000-000000000001', 'a', 0, '1')
select pgflow.fail_task('00000000-0000-7000-8000-000000000001', 'a', 0, '')
select pgflow.settle_tasks('{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}')
select pgflow.fail_lapsed_tasks(array['f'])
select pgflow.forget_blobs(1)
select pgflow.delete_blobs('{}')
select pgflow.ensure_blob_days(3)
select pgflow.take_seat(gen_random_uuid(), '{}', '', 0)
select pgflow.bury_worker('00000000-0000-7000-8000-000000000001', 0)
select pgflow.notify_owed('{}', '{}')
""".strip().splitlines()

# Neither does an observer start or store anything, nor see a value.
VALUES = """
select pgflow.start_flow('f', '{}')
select pgflow.start_flows('f', '{}')
update pgflow.output_blobs set preview = ''
select pgflow.store_input(null, null, '', '', '', '', '', '{}', 0, '', '', '')
select pgflow.open_input(null, null, '', '', '', '', '', '', 0)
select pgflow.write_input(gen_random_uuid(), 0, '')
select pgflow.finish_input(gen_random_uuid(), 0, 0, 0, '', '')
select * from pgflow.runs
select r from pgflow.runs r
select count(*) from pgflow.runs where input::text like '%payload%'
select input from pgflow.runs
select output from pgflow.runs
select output from pgflow.step_tasks
select pg_column_size(output) from pgflow.step_tasks
select content from pgflow.output_blobs
select data_key from pgflow.output_blobs
select preview from pgflow.output_blobs
select content from pgflow.output_blobs_default
select preview from pgflow.blobs
select content from pgflow.blob_chunks
select content from pgflow.blob_dictionaries
select pgflow.blob_json(id) from pgflow.output_blobs
table pgflow.runs
""".strip().splitlines()

# A login without a role does not even see the schema.
READING = """
select run_id from pgflow.runs
select flow_slug from pgflow.flows
select id from pgflow.output_blobs
select msg_id from pgmq.q_f
select pgflow.channel('runs', 'f')
""".strip().splitlines()

ATTACKS = {
    WORKER: DESTRUCTION,
    CLIENT: [*DESTRUCTION, *WORK],
    OBSERVER: [*DESTRUCTION, *WORK, *VALUES],
    NOBODY: [*DESTRUCTION, *WORK, *VALUES, *READING],
}
