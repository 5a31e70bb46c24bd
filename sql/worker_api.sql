-- What tandem-sync calls, called by hand in a database of its own, where no worker competes for the lease.
\set SHOW_CONTEXT never
\pset null '(null)'
SET client_min_messages = error;
CREATE DATABASE regress_worker_api;
\c regress_worker_api
SET client_min_messages = error;
CREATE EXTENSION pg_tandem CASCADE;
CREATE SERVER old FOREIGN DATA WRAPPER mysql_fdw OPTIONS (host 'old.example', port '3307', ssl_ca '/etc/ca.pem');
CREATE USER MAPPING FOR PUBLIC SERVER old OPTIONS (username 'tandem', password 'a=b');
CREATE TABLE public.users (id integer PRIMARY KEY);
CREATE TABLE public.members (org integer, id integer, PRIMARY KEY (org, id));
INSERT INTO tandem.source (name, server, database, mapping_role) VALUES ('shop', 'old', 'shop', 'postgres');
INSERT INTO tandem.source_table (source_id, name, target, key_columns, outbox, trigger_suffix)
VALUES (1, 'users', 'public.users', '{id}', '', ''), (1, 'members', 'public.members', '{org,id}', '', '');
INSERT INTO tandem.source_column (table_id, ordinal, name, mysql_type, data_type, nullable, image_type)
VALUES (1, 1, 'id', 'int(11)', 'int', false, 'integer'), (2, 1, 'org', 'int(11)', 'int', false, 'integer'), (2, 2, 'id', 'int(11)', 'int', false, 'integer');
INSERT INTO tandem.target_column (table_id, name, source_column, key_position)
VALUES (1, 'id', 'id', 1), (2, 'org', 'org', 1), (2, 'id', 'id', 2);
INSERT INTO tandem.source_fk VALUES (1, 'fk', 'shop', 'members', '{org}', 'shop', 'users', '{id}', 'CASCADE', 'CASCADE');
RESET client_min_messages;

-- Without a worker a question is refused at once.
SELECT tandem._ask('{"kind": "ping"}');
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT tandem._ask('{"kind": "ping"}');
ROLLBACK;

SET ROLE tandem_worker;
-- Hello: the same version, or nothing.
SELECT tandem.worker_hello('0.0.0', 'test');
SELECT tandem.worker_hello(NULL, 'test');
SELECT tandem.next_question(0);
SELECT tandem.worker_hello(extversion, '') FROM pg_catalog.pg_extension WHERE extname = 'pg_tandem';
SELECT tandem.worker_hello(extversion, 'test') ?& ARRAY['lease_ttl_ms', 'batch_rows', 'batch_bytes', 'poll_min_ms', 'poll_max_ms',
  'pipeline_depth', 'source_lock_timeout_ms'] AS settings FROM pg_catalog.pg_extension WHERE extname = 'pg_tandem';

-- Connections.
SELECT source_id, name, database, metadata_database, host, port, username, password, tls, ssl_ca, length(hash) FROM tandem.worker_sources();
SELECT host, username FROM tandem.worker_server('old', 'other');
SELECT * FROM tandem.worker_server('missing', 'other');
RESET ROLE;
DROP USER MAPPING FOR PUBLIC SERVER old;
SET ROLE tandem_worker;
SELECT * FROM tandem.worker_server('old', 'other', 'postgres');
SELECT * FROM tandem.worker_server('old', 'other');
SELECT * FROM tandem.worker_sources();

-- Leases: epochs only grow.
SELECT tandem.acquire_lease(1, 'a');
SELECT tandem.acquire_lease(1, 'b');
SELECT tandem.acquire_lease(1, 'a');
SELECT tandem.renew_lease(1, 'a', 1), tandem.renew_lease(1, 'b', 2), tandem.renew_lease(1, 'a', 2);
SELECT tandem.release_lease(1, 'a', 2);
SELECT tandem.renew_lease(1, 'a', 2) AS after_the_release;
SELECT tandem.acquire_lease(1, 'b');
SELECT tandem.renew_lease(1, 'a', 2);
SELECT tandem.acquire_lease(99, 'b');
-- The epoch reaches the disk, whatever the session says.
BEGIN;
SET LOCAL synchronous_commit = off;
SELECT tandem.acquire_lease(1, 'b');
SHOW synchronous_commit;
ROLLBACK;

-- Tables.
SELECT t ->> 'name' AS name, t ->> 'desired_state' AS desired, t ->> 'state' AS state, t -> 'key_columns' AS key_columns,
       t -> 'referenced_columns' AS referenced, t -> 'cascade_parents' AS parents, t -> 'key_cascades' AS key_cascades
FROM jsonb_array_elements(tandem.worker_tables(1)) AS t;
SELECT jsonb_pretty(tandem.worker_tables(1) -> 0 -> 'columns');
RESET ROLE;
SELECT tandem.start();
SET ROLE tandem_worker;
SELECT c -> 'child' AS child, c -> 'child_key_columns' AS child_key, c -> 'columns' AS columns, c -> 'ref_columns' AS ref_columns
FROM jsonb_array_elements(tandem.worker_tables(1) -> 0 -> 'key_cascades') AS c;

-- States are reported by the one that leads.
SELECT tandem.report_table(1, 2, 'syncing', NULL, NULL);
SELECT tandem.report_table(1, 3, 'syncing', NULL, NULL), tandem.report_table(2, 3, 'blocked', 'no trigger', '{"trigger": "tandem_ai"}');

-- Batches: named by the epoch, acknowledged by apply.
SELECT tandem.submit_batch(1, 1, 3, 0, 0, 0);
SELECT tandem.submit_batch((3::bigint << 32) + 1, 1, 3, 0, 0, 0, '{"table_id": 1}');
SELECT tandem.submit_batch((3::bigint << 32) + 1, 1, 3, 0, 0, 0);
SELECT generation AS seen FROM tandem.wait_events(1, 3, 0, 0) \gset
SELECT acked, fenced, generation = :seen AS unchanged, requests, barrier FROM tandem.wait_events(1, 3, :seen, 30000);
SELECT tandem.finish_batches(ARRAY[(3::bigint << 32) + 1]);
SELECT acked, fenced, requests FROM tandem.wait_events(1, 3, :seen, 0);
-- Another epoch's batch is not acknowledged.
SELECT fenced FROM tandem.wait_events(1, 2, :seen, 1000);

-- Requests wait until their table is in sync.
RESET ROLE;
INSERT INTO tandem.request (table_id, key_text, flags, reason) VALUES (1, '{42}', 2, 'test'), (2, '{1,2}', 0, 'test');
SELECT tandem._requests_changed();
SET ROLE tandem_worker;
SELECT requests FROM tandem.wait_events(1, 3, :seen, 1000);
SELECT table_id, key_text, flags FROM tandem.take_requests(1, 10);
SELECT tandem.finish_requests(ARRAY(SELECT request_id FROM tandem.take_requests(1, 10)));
SELECT requests FROM tandem.wait_events(1, 3, :seen, 0);

-- Barriers.
RESET ROLE;
UPDATE tandem.table_state SET state = 'syncing', backfill_done = true;
SELECT tandem._raise_barriers();
SELECT tandem.wait_caught_up(interval '10 ms');
SELECT tandem.wait_caught_up(interval '-1 s');
SET ROLE tandem_worker;
SELECT barrier FROM tandem.wait_events(1, 3, :seen, 1000);
SELECT tandem.reached_barrier(1, 2, 2);
SELECT tandem.reached_barrier(1, 3, 1000);
RESET ROLE;
SELECT tandem.wait_caught_up(interval '10 s');
INSERT INTO tandem.retry (table_id, key, op, sqlstate, message, next_attempt) VALUES (1, 'x', 'U', '55P03', 'locked', 'infinity');
SELECT tandem.wait_caught_up(interval '10 ms');
DELETE FROM tandem.retry;
BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT tandem.wait_caught_up(interval '10 ms');
ROLLBACK;

-- Statistics.
SELECT tandem.reset_stats();
SET ROLE tandem_worker;
SELECT tandem.report_stats(1, 2, '{"tables": [{"table_id": 1, "captured": 1000}], "polls": 1000}');
SELECT tandem.report_stats(1, 3, '{"tables": [{"table_id": 1, "captured": 7, "outbox_rows": 3, "oldest_us": 2000000, "capture_cost_us": 12.5}],
  "fetch_us": 1000, "copy_us": 2000, "delete_us": 3000, "polls": 4, "reconnects": 1, "rss_kb": 20000, "version": "test"}');
SELECT tandem.report_stats(1, 3, '{"tables": [{"table_id": 1, "captured": 3, "outbox_rows": null}], "polls": 1}');
RESET ROLE;
SET ROLE tandem_monitor;
SELECT source, "table", state, captured, upserted, lag_rows, lag_seconds >= 2 AS two_seconds, latency_p50_ms, capture_cost_us FROM tandem.pg_stat_tandem_tables ORDER BY 2;
SELECT source, leader, epoch, workers, version, fetch_ms, copy_ms, delete_ms, polls, reconnects, rss_kb FROM tandem.pg_stat_tandem_worker;
SELECT source, pid IS NOT NULL AS running, batches, rows, fetch_ms_per_batch, pending_batches, refused, narrowed, last_error FROM tandem.pg_stat_tandem_apply;
SELECT tandem.reset_stats();
RESET ROLE;

-- A dropped table goes when the worker says so.
SET ROLE tandem_worker;
SELECT tandem.forget_table(2, 3);
RESET ROLE;
SELECT tandem.drop_table('members');
SET ROLE tandem_worker;
SELECT tandem.forget_table(2, 2);
SELECT tandem.forget_table(2, 3), tandem.forget_table(2, 3);
SELECT jsonb_array_length(tandem.worker_tables(1));

-- Settings that a worker follows; nothing flows back from the new side yet.
SELECT tandem.worker_settings() ?& ARRAY['batch_bytes', 'batch_rows', 'lease_ttl_ms', 'pipeline_depth', 'poll_max_ms', 'poll_min_ms', 'source_lock_timeout_ms'] AS all_there;
SELECT * FROM tandem.reverse_events(1, 10);

-- Questions: nobody waits for this answer.
SELECT * FROM tandem.next_question(0);
SELECT tandem.answer(1, 0, '{}', true);
RESET ROLE;
SELECT tandem._ask(jsonb_build_object('text', repeat('x', 17000)));
SELECT tandem._ask('{"kind": "ping"}', interval '10 ms');

\c regression
DROP DATABASE regress_worker_api;
