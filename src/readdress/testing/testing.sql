-- assign_key
-- Calls that are signed with the key act in this account from now on.
UPDATE access_key SET account = :account WHERE id = :id;

-- find_address
SELECT id FROM email_address WHERE address_key = :address_key;

-- list_addresses
SELECT address FROM email_address WHERE instance_id = :instance_id ORDER BY id;
