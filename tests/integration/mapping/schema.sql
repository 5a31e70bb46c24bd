CREATE TABLE users (
  id INT NOT NULL AUTO_INCREMENT PRIMARY KEY,
  first VARCHAR(30) NOT NULL,
  last VARCHAR(30),
  is_admin TINYINT(1) NOT NULL DEFAULT 0,
  cents BIGINT NOT NULL DEFAULT 0,
  secret VARCHAR(30)
) ENGINE=InnoDB;
INSERT INTO users (first, last, is_admin, cents) VALUES ('Ada', 'L', 1, 12345), ('Bob', NULL, 0, -1), ('Eve', '', 2, 0);
