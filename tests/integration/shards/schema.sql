CREATE TABLE users (
  id INT NOT NULL PRIMARY KEY,
  first VARCHAR(40) NOT NULL,
  last VARCHAR(40) NULL,
  country CHAR(2) NULL,
  address VARCHAR(100) NULL
) CHARACTER SET utf8mb4 ENGINE=InnoDB;
INSERT INTO users VALUES (1, 'Ada', 'L', 'DE', 'Berlin;10115'), (2, 'Bob', NULL, 'FR', 'Paris;75001'), (3, 'Cy', 'T', NULL, NULL), (4, 'Di', 'W', 'DE', 'Bonn;53111');
