-- The old database of the pg_regress tests: tables that can be moved, and one for each reason why a table cannot.
CREATE TABLE orgs (id INT PRIMARY KEY, name VARCHAR(50) NOT NULL) ENGINE=InnoDB;

CREATE TABLE users (
  id INT AUTO_INCREMENT PRIMARY KEY,
  email VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL DEFAULT 'it''s' COMMENT 'where mail goes',
  first VARCHAR(20) NOT NULL, last VARCHAR(20) NOT NULL,
  is_admin TINYINT(1) NOT NULL DEFAULT 0,
  balance DECIMAL(10,2) DEFAULT 1.50,
  created DATETIME(3) DEFAULT CURRENT_TIMESTAMP(3),
  org_id INT,
  mood ENUM('good','bad'),
  UNIQUE KEY by_mail (email),
  KEY by_name (last, first),
  KEY by_start (first(3)),
  CONSTRAINT users_org FOREIGN KEY (org_id) REFERENCES orgs (id) ON DELETE CASCADE
) ENGINE=InnoDB COMMENT='people';
INSERT INTO orgs VALUES (1, 'one'), (2, 'two');
INSERT INTO users (email, first, last, is_admin, org_id, mood) VALUES ('a@x', 'Ann', 'Lee', 1, 1, 'good'), ('b@x', 'Bob', 'Ray', 0, 2, NULL);

-- One column of every type.
CREATE TABLE kinds (
  id BIGINT UNSIGNED PRIMARY KEY,
  ti TINYINT, tu TINYINT UNSIGNED, si SMALLINT, su SMALLINT UNSIGNED, mi MEDIUMINT, mu MEDIUMINT UNSIGNED, i INT, iu INT UNSIGNED,
  bi BIGINT, de DECIMAL(12,4), fl FLOAT, db DOUBLE, bt BIT(5), da DATE, dt DATETIME(6), ts TIMESTAMP(2) NULL, tm TIME(1), yr YEAR,
  ch CHAR(5), vc VARCHAR(30), tx TEXT, en ENUM('x','y'), st SET('p','q'), bn BINARY(4), vb VARBINARY(9), bl BLOB, js JSON
) ENGINE=InnoDB;

CREATE TABLE pairs (b VARCHAR(10) COLLATE utf8mb4_bin NOT NULL, a INT NOT NULL, v TEXT, PRIMARY KEY (b, a)) ENGINE=InnoDB;
CREATE TABLE by_unique (code VARCHAR(8) NOT NULL, num INT NOT NULL, other INT, v INT, UNIQUE KEY nul (other), UNIQUE KEY two (num, code), UNIQUE KEY one (num)) ENGINE=InnoDB;
CREATE TABLE `Odd Name's` (`Key Col` INT PRIMARY KEY, `select` INT, `a"b` INT) ENGINE=InnoDB;
CREATE VIEW grown_up AS SELECT * FROM users;

CREATE TABLE bad_no_key (a INT, b INT) ENGINE=InnoDB;
CREATE TABLE bad_null_key (a INT, b INT, UNIQUE KEY a (a)) ENGINE=InnoDB;
CREATE TABLE bad_prefix_key (a VARCHAR(100) NOT NULL, UNIQUE KEY a (a(10))) ENGINE=InnoDB;
CREATE TABLE bad_engine (id INT PRIMARY KEY) ENGINE=MyISAM;
