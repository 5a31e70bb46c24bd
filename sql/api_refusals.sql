-- Each reason why an old table or a target is refused, and the way out that is named.
\getenv abs_srcdir PG_ABS_SRCDIR
\set prelude :abs_srcdir /sql/prelude.inc
\i :prelude
SELECT tandem.add_source('shop', 'old', 'shop') > 0 AS added;

-- Old tables.
SELECT tandem.add_table('nix', 'users');
SELECT tandem.add_table('shop', 'user');
SELECT tandem.add_table('shop', 'zzz');
SELECT tandem.add_tables('shop', 'zzz%');
SELECT tandem.add_table('shop', 'grown_up');
SELECT tandem.add_table('shop', 'bad_engine');
SELECT tandem.add_table('shop', 'bad_no_key');
SELECT tandem.add_table('shop', 'bad_null_key');
SELECT tandem.add_table('shop', 'bad_prefix_key');

-- What only other servers and users show: the checks on descriptions made by hand.
CREATE FUNCTION refuse(change jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
  source tandem.source := tandem._source_named('shop');
BEGIN
  PERFORM tandem._refuse_unmovable(source, tandem._describe_one(source, 'orgs') || change);
END
$$;
SELECT refuse('{}');
SELECT refuse('{"missing_privileges": ["GRANT TRIGGER ON `shop`.* TO ''tandem''@''%''", "GRANT SELECT ON `shop`.* TO ''tandem''@''%''"]}');
SELECT refuse('{"trigger_slots_shared": false, "triggers": [{"name": "audit", "timing": "AFTER", "event": "UPDATE", "definer": "app@%"}]}');
SELECT refuse('{"trigger_slots_shared": false, "triggers": [{"name": "audit", "timing": "BEFORE", "event": "UPDATE", "definer": "app@%"}]}');
SELECT refuse('{"trigger_slots_shared": true, "triggers": [{"name": "audit", "timing": "AFTER", "event": "UPDATE", "definer": "app@%"}]}');
SELECT refuse('{"columns": [{"ordinal": 1, "name": "v", "mysql_type": "vector(3)", "image_type": null, "unmappable": "type vector(3) has no PostgreSQL type"}]}');
SELECT refuse(jsonb_build_object('columns', jsonb_build_array(jsonb_build_object('ordinal', 1, 'name', repeat('é', 40), 'image_type', 'text'))));
SELECT tandem._refuse_unfit_server('{"read_only": true}', 'old');
SELECT tandem._short_name(repeat('t', 63)) = repeat('t', 63) AS kept, tandem._short_name(repeat('t', 64)), octet_length(tandem._short_name(repeat('é', 64))),
  tandem._short_name(repeat('t', 63) || 'a') <> tandem._short_name(repeat('t', 63) || 'b') AS told_apart;
DROP FUNCTION refuse;

-- Targets.
CREATE VIEW a_view AS SELECT 1 AS id, 'x'::text AS name;
SELECT tandem.add_table('shop', 'orgs', 'a_view');
CREATE FOREIGN TABLE a_foreign_table (id integer, name text) SERVER old OPTIONS (dbname 'shop', table_name 'orgs');
SELECT tandem.add_table('shop', 'orgs', 'a_foreign_table');
CREATE TABLE split (id integer, name text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE split_1 PARTITION OF split FOR VALUES FROM (0) TO (100);
SELECT tandem.add_table('shop', 'orgs', 'split_1');
SELECT tandem.add_table('shop', 'orgs', 'split') IS NOT NULL AS added;
SELECT tandem.add_table('shop', 'orgs', 'split');
SELECT tandem.add_table('shop', 'pairs', 'split');
SELECT tandem.drop_table('orgs');
SELECT tandem.add_table('shop', 'orgs', 'pg_class');
SELECT tandem.add_table('shop', 'orgs', 'tandem.source');
CREATE TEMPORARY TABLE passing (id integer PRIMARY KEY, name text);
SELECT tandem.add_table('shop', 'orgs', 'passing');
CREATE UNLOGGED TABLE risky (id integer PRIMARY KEY, name text);
SELECT tandem.add_table('shop', 'orgs', 'risky') IS NOT NULL AS added;
SELECT tandem.drop_table('orgs');

-- The key of the target.
CREATE TABLE keyless (id integer, name text);
SELECT tandem.add_table('shop', 'orgs', 'keyless');
CREATE UNIQUE INDEX ON keyless (id) WHERE id > 0;
SELECT tandem.add_table('shop', 'orgs', 'keyless');
ALTER TABLE keyless ADD CONSTRAINT late UNIQUE (id) DEFERRABLE;
SELECT tandem.add_table('shop', 'orgs', 'keyless');
ALTER TABLE keyless DROP CONSTRAINT late, ADD CONSTRAINT apart EXCLUDE USING btree (id WITH =) DEFERRABLE;
SELECT tandem.add_table('shop', 'orgs', 'keyless');
ALTER TABLE keyless DROP CONSTRAINT apart;
CREATE UNIQUE INDEX ON keyless (id, name);
CREATE UNIQUE INDEX ON keyless ((id + 0));
SELECT tandem.add_table('shop', 'orgs', 'keyless');
CREATE UNIQUE INDEX ON keyless (id) INCLUDE (name);
-- Triggers that fire while rows are applied are allowed, with a notice.
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER usual BEFORE INSERT ON keyless FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE TRIGGER always BEFORE INSERT ON keyless FOR EACH ROW EXECUTE FUNCTION nothing();
CREATE TRIGGER applied BEFORE INSERT ON keyless FOR EACH ROW EXECUTE FUNCTION nothing();
ALTER TABLE keyless ENABLE ALWAYS TRIGGER always, ENABLE REPLICA TRIGGER applied;
SELECT tandem.add_table('shop', 'orgs', 'keyless') IS NOT NULL AS added;
SELECT tandem.drop_table('orgs');
DROP FUNCTION nothing CASCADE;

-- NOT NULL without a value; a schema that is not there.
ALTER TABLE keyless ADD strict integer NOT NULL;
SELECT tandem.add_table('shop', 'orgs', 'keyless');
ALTER TABLE keyless ALTER strict SET DEFAULT 1;
SELECT tandem.add_table('shop', 'orgs', 'keyless') IS NOT NULL AS added;
SELECT tandem.drop_table('orgs');
SELECT tandem.add_table('shop', 'orgs', target_schema => 'nowhere');
SET search_path = nowhere;
SELECT tandem.add_table('shop', 'orgs');
RESET search_path;

SELECT tandem.drop_source('shop');
DROP VIEW a_view;
DROP FOREIGN TABLE a_foreign_table;
DROP TABLE split, risky, keyless;
