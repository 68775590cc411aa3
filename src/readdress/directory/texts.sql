-- list_indexed
-- On SQLite alone. The index gives its rows in the order of their numbers, which is that of creation.
SELECT x.rowid, e.id, e.instance_id, e.address, e.display_name, e.description, e.created_ms, e.modified_ms, r.alias_id
FROM address_text x CROSS JOIN address_number n ON n.number = x.rowid CROSS JOIN email_address e ON e.id = n.address_id
LEFT JOIN alias r ON r.primary_id = e.id
WHERE address_text MATCH :expression AND x.rowid > :after AND e.instance_id = :instance_id AND {where}
ORDER BY x.rowid LIMIT :limit;

-- count_indexed
SELECT count(*) FROM (
    SELECT 1 FROM address_text x CROSS JOIN address_number n ON n.number = x.rowid
    CROSS JOIN email_address e ON e.id = n.address_id
    WHERE address_text MATCH :expression AND e.instance_id = :instance_id AND {where} LIMIT :limit) AS hits;

-- list_new
-- What the index has not taken in yet.
SELECT n.number, e.id, e.instance_id, e.address, e.display_name, e.description, e.created_ms, e.modified_ms, r.alias_id
FROM address_number n CROSS JOIN email_address e ON e.id = n.address_id LEFT JOIN alias r ON r.primary_id = e.id
WHERE n.number > max(:after, (SELECT number FROM address_text_upto)) AND e.instance_id = :instance_id AND {where}
ORDER BY n.number LIMIT :limit;

-- count_new
SELECT count(*) FROM (
    SELECT 1 FROM address_number n CROSS JOIN email_address e ON e.id = n.address_id
    WHERE n.number > (SELECT number FROM address_text_upto) AND e.instance_id = :instance_id AND {where}
    LIMIT :limit) AS hits;

-- number_address
INSERT INTO address_number (address_id) VALUES (:address_id);

-- find_progress
-- How far the index has come, and how far it might.
SELECT u.number, (SELECT coalesce(max(number), 0) FROM address_number) FROM address_text_upto u;

-- index_texts
INSERT INTO address_text (rowid, address, display_name, description)
SELECT n.number, e.address_folded, e.display_name_folded, e.description_folded
FROM address_number n CROSS JOIN email_address e ON e.id = n.address_id
WHERE n.number > :done AND n.number <= :upto ORDER BY n.number;

-- note_progress
UPDATE address_text_upto SET number = :upto;
