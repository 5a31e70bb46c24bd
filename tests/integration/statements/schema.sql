CREATE TABLE items (
  id INT AUTO_INCREMENT PRIMARY KEY,
  sku VARCHAR(30) NOT NULL,
  qty INT NOT NULL DEFAULT 0,
  note TEXT,
  UNIQUE KEY (sku)
) ENGINE=InnoDB;
CREATE TABLE stock (
  item INT NOT NULL,
  place VARCHAR(20) NOT NULL,
  qty INT NOT NULL DEFAULT 0,
  PRIMARY KEY (item, place)
) ENGINE=InnoDB;
CREATE TABLE log (
  id BIGINT UNSIGNED AUTO_INCREMENT PRIMARY KEY,
  said VARCHAR(200)
) ENGINE=InnoDB;
INSERT INTO items (sku, qty, note) VALUES ('early-1', 1, 'there before the source'), ('early-2', 2, NULL), ('early-3', 3, '');
INSERT INTO stock VALUES (1, 'a', 1), (1, 'b', 2), (2, 'a', 3);
