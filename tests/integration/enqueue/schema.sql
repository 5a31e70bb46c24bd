CREATE TABLE e (id INT NOT NULL, place VARCHAR(20) NOT NULL, v INT, PRIMARY KEY (id, place)) ENGINE=InnoDB;
INSERT INTO e VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c ', 3);
