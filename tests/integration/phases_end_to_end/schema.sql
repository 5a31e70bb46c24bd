CREATE TABLE customers (id INT PRIMARY KEY, name VARCHAR(40) NOT NULL) ENGINE=InnoDB;
CREATE TABLE orders (id INT PRIMARY KEY, customer_id INT NOT NULL, state ENUM('open','paid','sent') NOT NULL, total DECIMAL(10,2) NOT NULL, placed DATETIME(3) NOT NULL) ENGINE=InnoDB;
INSERT INTO customers VALUES (1, 'Ann'), (2, 'Bob'), (3, 'Cid');
