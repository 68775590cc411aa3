-- What a search reads instead of every address: the trigrams of all texts, in an index of FTS5.

-- Addresses in the order in which they were published; no number is given twice.
CREATE TABLE address_number (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    address_id TEXT NOT NULL UNIQUE
);

INSERT INTO address_number (address_id) SELECT id FROM email_address ORDER BY id;

-- Its rowids are those numbers. FTS5 writes a segment for each statement, which costs ten times what the row does, so
-- new addresses are taken in many at a time; `number` says how far that has come.
CREATE VIRTUAL TABLE address_text USING fts5 (
    address, display_name, description, content = '', columnsize = 0, tokenize = 'trigram case_sensitive 1'
);

CREATE TABLE address_text_upto (number INTEGER NOT NULL);

INSERT INTO address_text_upto VALUES (0);

CREATE TRIGGER number_address AFTER INSERT ON email_address BEGIN
    INSERT INTO address_number (address_id) VALUES (new.id);
    END;

CREATE TRIGGER change_address_text
AFTER UPDATE OF address_folded, display_name_folded, description_folded ON email_address
WHEN (SELECT number FROM address_number WHERE address_id = new.id) <= (SELECT number FROM address_text_upto) BEGIN
    INSERT INTO address_text (address_text, rowid, address, display_name, description)
    SELECT 'delete', number, old.address_folded, old.display_name_folded, old.description_folded
    FROM address_number WHERE address_id = old.id;
    INSERT INTO address_text (rowid, address, display_name, description)
    SELECT number, new.address_folded, new.display_name_folded, new.description_folded
    FROM address_number WHERE address_id = new.id;
    END;

CREATE TRIGGER forget_address_text AFTER DELETE ON email_address BEGIN
    INSERT INTO address_text (address_text, rowid, address, display_name, description)
    SELECT 'delete', number, old.address_folded, old.display_name_folded, old.description_folded
    FROM address_number WHERE address_id = old.id AND number <= (SELECT number FROM address_text_upto);
    DELETE FROM address_number WHERE address_id = old.id;
    END
