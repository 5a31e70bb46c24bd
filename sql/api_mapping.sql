-- Targets that exist already, and the argument "columns".
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.inc
\i :prelude
SELECT tandem.add_source('shop', 'old', 'shop') > 0 AS added;

-- Other names, expressions, columns that are left alone or computed by PostgreSQL.
CREATE TABLE people (
  user_id bigint PRIMARY KEY, full_name text NOT NULL, "Email" text, is_admin boolean NOT NULL, balance numeric(12,2), mood text,
  seen timestamptz DEFAULT now(), name_length integer GENERATED ALWAYS AS (length(full_name)) STORED, org_id integer
);
SELECT tandem.add_table('shop', 'users', 'people',
  '{"user_id": "id", "full_name": "first || '' '' || last", "is_admin": "is_admin <> 0", "mood": null}') IS NOT NULL AS added;
SELECT jsonb_pretty(mapping) FROM tandem.tables WHERE "table" = 'users';
SELECT name, source_column, expression, key_position FROM tandem.target_column ORDER BY name COLLATE "C";
SELECT tandem.drop_table('users');

-- What would change values is refused, with the declaration that allows it.
ALTER TABLE people ALTER balance TYPE numeric(8,1), ALTER "Email" TYPE varchar(20), ADD created date;
SELECT tandem.add_table('shop', 'users', 'people', '{"user_id": "id", "full_name": "first || last"}');
SELECT tandem.add_table('shop', 'users', 'people', '{"user_id": "id", "full_name": "first || last", "is_admin": "is_admin <> 0",
  "balance": "balance::numeric(8,1)", "Email": "email::varchar(20)", "created": "created::date"}') IS NOT NULL AS added;
SELECT jsonb_pretty(mapping) FROM tandem.tables WHERE "table" = 'users';
SELECT tandem.drop_table('users');
-- An expression is held to the same rules.
SELECT tandem.add_table('shop', 'users', 'people', '{"user_id": "id", "full_name": "first || last", "is_admin": "is_admin <> 0",
  "balance": "balance * 2", "Email": null, "created": null}');

-- "columns" with mistakes.
SELECT tandem.add_table('shop', 'users', 'people', '["id"]');
SELECT tandem.add_table('shop', 'users', 'people', '{"user_id": 1}');
SELECT tandem.add_table('shop', 'users', 'people', '{"nix": "id"}');
SELECT tandem.add_table('shop', 'users', 'people', '{"user_id": "id", "name_length": "length(first)"}');
SELECT tandem.add_table('shop', 'users', 'people', '{"user_id": "id", "full_name": "nix"}');
SELECT tandem.add_table('shop', 'users', 'people', '{"user_id": "id", "full_name": "now()::text"}');
SELECT tandem.add_table('shop', 'users', 'people', '{"user_id": "id", "full_name": "(SELECT ''x'')"}');
SELECT tandem.add_table('shop', 'users', 'people', '{"user_id": "id", "full_name": "max(first)"}');
SELECT tandem.add_table('shop', 'users', 'people', '{"user_id": "id", "full_name": "''x'')) ; DROP TABLE people; --"}');
SELECT tandem.add_table('shop', 'users', 'people', '{"user_id": "id", "full_name": "''x'') STORED, trap text DEFAULT (''y''"}');
SELECT tandem.add_table('shop', 'users', 'people', '{"user_id": "id", "full_name": "first, last"}');
SELECT tandem.add_table('shop', 'users', 'people', '{"user_id": "id", "full_name": ""}');
SELECT tandem.add_table('shop', 'users', 'people', '{"user_id": "id + 1", "full_name": "first"}');
SELECT to_regclass('people') IS NOT NULL AS still_there, (SELECT count(*) FROM tandem.tables) AS tables;

-- Created targets: renamed, replaced, left out and new columns.
SELECT tandem.add_table('shop', 'users', columns =>
  '{"user_id": "id", "is_admin": "is_admin <> 0", "full_name": "first || '' '' || last", "first": null, "last": null, "mood": null}') IS NOT NULL AS added;
\d users
SELECT jsonb_pretty(mapping) FROM tandem.tables WHERE "table" = 'users';
SELECT tandem.drop_table('users', keep_target => false);

-- An enum takes the labels; a domain and narrower numbers take what fits. Said once, not refused.
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TABLE narrow (id smallint PRIMARY KEY, mood mood NOT NULL);
SELECT tandem.add_table('shop', 'users', 'narrow') IS NOT NULL AS added;
SELECT tandem.drop_table('users');

-- Rows that a target has already.
INSERT INTO narrow VALUES (7, 'bad');
SELECT tandem.add_table('shop', 'users', 'narrow');
SELECT tandem.add_table('shop', 'users', 'narrow', on_existing => 'maybe');
SET client_min_messages = warning;
SELECT tandem.add_table('shop', 'users', 'narrow', on_existing => 'keep') IS NOT NULL AS added;
SELECT count(*) FROM narrow;
SELECT tandem.drop_table('users');
SELECT tandem.add_table('shop', 'users', 'narrow', on_existing => 'truncate') IS NOT NULL AS added;
SELECT count(*) FROM narrow;
SELECT tandem.drop_source('shop', cascade => true);
DROP TABLE people, narrow;
DROP TYPE mood;
