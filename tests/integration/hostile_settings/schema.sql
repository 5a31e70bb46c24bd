CREATE TABLE parent (id INT NOT NULL PRIMARY KEY, name VARCHAR(30) CHARACTER SET utf8mb4, UNIQUE KEY (name)) ENGINE=InnoDB;
CREATE TABLE h (id INT NOT NULL AUTO_INCREMENT PRIMARY KEY, parent VARCHAR(30) CHARACTER SET utf8mb4, t VARCHAR(60) CHARACTER SET utf8mb4, b VARBINARY(60), d DATE,
  ts TIMESTAMP(6) NULL DEFAULT NULL, f DOUBLE, s CHAR(10) CHARACTER SET latin1, tm TIME(3),
  FOREIGN KEY (parent) REFERENCES parent (name) ON DELETE SET NULL ON UPDATE CASCADE) ENGINE=InnoDB;
INSERT INTO parent VALUES (1, 'one'), (2, 'zwei'), (3, 'trois');
INSERT INTO h (parent, t, b, d, ts, f, s, tm) VALUES ('one', 'x''y\\z', x'005c27ff', '2024-02-03', '2024-02-03 04:05:06.000007', 0.1, 'abc', '-01:02:03.5'), (NULL, '', x'', '1000-01-01', NULL, -1e-300, '', '00:00:00');
INSERT INTO h (parent, t) VALUES ('zwei', '1'), ('zwei', '2'), ('trois', '3'), ('trois', '4'), ('one', '5'), ('one', '6'), (NULL, '7');
