-- What make_queue_functions() writes for the queue of each flow.
create schema pgflow_queues;

drop function if exists pgflow.lock_visible(text, integer);
