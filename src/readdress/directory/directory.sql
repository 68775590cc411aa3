-- insert_instance
INSERT INTO instance (id, account, alias, identity_management_type, directory_id, inbound_calls, outbound_calls,
    created_ms)
VALUES (:id, :account, :alias, :identity_management_type, :directory_id, :inbound_calls, :outbound_calls, :created_ms)
ON CONFLICT DO NOTHING;

-- find_instance
SELECT id, account, alias, identity_management_type, directory_id, inbound_calls, outbound_calls, created_ms
FROM instance WHERE id = :id AND account = :account;

-- list_instances
SELECT id, account, alias, identity_management_type, directory_id, inbound_calls, outbound_calls, created_ms
FROM instance WHERE account = :account AND id > :after ORDER BY id LIMIT :limit;

-- lock_instance
-- While addresses are counted against a quota, or the instance goes away with them.
SELECT id FROM instance WHERE id = :id {lock};

-- delete_instance
DELETE FROM instance WHERE id = :id;

-- lock_addresses_of_instance
SELECT id FROM email_address WHERE instance_id = :instance_id ORDER BY address_key {lock};

-- delete_addresses_of_instance
DELETE FROM email_address WHERE instance_id = :instance_id;

-- delete_tags_of_addresses
DELETE FROM tag WHERE resource_id IN (SELECT id FROM email_address WHERE instance_id = :instance_id);

-- count_addresses
SELECT count(*) FROM email_address WHERE instance_id = :instance_id;

-- insert_address
INSERT INTO email_address (id, instance_id, address, address_key, domain, display_name, description, address_folded,
    display_name_folded, description_folded, created_ms, modified_ms)
VALUES (:id, :instance_id, :address, :address_key, :domain, :display_name, :description, :address_folded,
    :display_name_folded, :description_folded, :created_ms, :created_ms)
ON CONFLICT DO NOTHING;

-- find_address
SELECT e.id, e.instance_id, e.address, e.display_name, e.description, e.created_ms, e.modified_ms, r.alias_id
FROM email_address e
JOIN instance i ON i.id = e.instance_id
LEFT JOIN alias r ON r.primary_id = e.id
WHERE e.id = :id AND e.instance_id = :instance_id AND i.account = :account;

-- describe_address
-- find_address with the tags, a row for each of them; one row without, where there are none.
SELECT e.id, e.instance_id, e.address, e.display_name, e.description, e.created_ms, e.modified_ms, r.alias_id,
    t.key, t.value
FROM email_address e
JOIN instance i ON i.id = e.instance_id
LEFT JOIN alias r ON r.primary_id = e.id
LEFT JOIN tag t ON t.resource_id = e.id
WHERE e.id = :id AND e.instance_id = :instance_id AND i.account = :account
ORDER BY t.key;

-- lock_addresses
-- The rows that a change is about, in ascending order, so that two changes can't wait for each other. It is the order
-- of keys, for these are all that mail knows of its recipients when it locks them.
SELECT id FROM email_address WHERE instance_id = :instance_id AND id IN (:one_id, :other_id)
ORDER BY address_key {lock};

-- update_display_name
UPDATE email_address SET display_name = :value, display_name_folded = :folded, modified_ms = :modified_ms
WHERE id = :id;

-- update_description
UPDATE email_address SET description = :value, description_folded = :folded, modified_ms = :modified_ms
WHERE id = :id;

-- delete_address
DELETE FROM email_address WHERE id = :id;

-- find_pair
-- Each of the two, with the primary that it serves and the alias that serves it.
SELECT e.id, s.primary_id, p.alias_id
FROM email_address e
JOIN instance i ON i.id = e.instance_id
LEFT JOIN alias s ON s.alias_id = e.id
LEFT JOIN alias p ON p.primary_id = e.id
WHERE e.id IN (:one_id, :other_id) AND e.instance_id = :instance_id AND i.account = :account;

-- find_partner
-- The other end of an address's relation.
SELECT CASE WHEN alias_id = :id THEN primary_id ELSE alias_id END FROM alias
WHERE alias_id = :id OR primary_id = :id;

-- insert_alias
INSERT INTO alias (alias_id, primary_id, created_ms) VALUES (:alias_id, :primary_id, :created_ms);

-- delete_alias
DELETE FROM alias WHERE alias_id = :alias_id AND primary_id = :primary_id;

-- lock_route
-- Before a message is accepted: no alias change may pass between its route and its commit.
SELECT id FROM email_address WHERE address_key = :address_key {lock_share};

-- find_route
-- The last column says whether any of the four has settings; the keys of settings are those between the two words.
SELECT a.id, a.instance_id, a.address, p.id, p.instance_id, p.address,
    EXISTS (SELECT 1 FROM tag t WHERE t.resource_id IN (a.id, a.instance_id, p.id, p.instance_id)
        AND t.key > 'readdress:' AND t.key < 'readdress;')
FROM email_address a
LEFT JOIN alias r ON r.alias_id = a.id
LEFT JOIN email_address p ON p.id = r.primary_id
WHERE a.address_key = :address_key;

-- list_settings
SELECT resource_id, key, value FROM tag
WHERE resource_id IN (:address_id, :instance_id, :primary_id, :primary_instance_id)
    AND key > 'readdress:' AND key < 'readdress;';

-- find_catch_all
-- The oldest wins, should there be two after all.
SELECT e.id, e.address_key FROM tag t JOIN email_address e ON e.id = t.resource_id
WHERE e.domain = :domain AND t.key = :key AND t.value = 'true' ORDER BY e.id LIMIT 1;

-- find_domain
SELECT 1 FROM email_address WHERE domain = :domain LIMIT 1;

-- find_srs_sender
SELECT sender FROM srs WHERE token = :token;

-- insert_history
INSERT INTO alias_history (alias_id, id, primary_id, at_ms, change, request_id)
VALUES (:alias_id, :id, :primary_id, :at_ms, :change, :request_id);

-- list_history
SELECT alias_id, primary_id, at_ms, change, request_id FROM (
    SELECT id, alias_id, primary_id, at_ms, change, request_id FROM alias_history WHERE alias_id = :address_id
    UNION SELECT id, alias_id, primary_id, at_ms, change, request_id FROM alias_history
    WHERE primary_id = :address_id) AS changes
WHERE at_ms BETWEEN :since_ms AND :until_ms ORDER BY id DESC LIMIT :limit;

-- note_deletion
-- The relation, if there is one, of an address that is about to go.
INSERT INTO alias_history (alias_id, id, primary_id, at_ms, change, request_id)
SELECT alias_id, :id, primary_id, :at_ms, 'DELETED', :request_id FROM alias
WHERE alias_id = :address_id OR primary_id = :address_id;

-- list_tags
SELECT key, value FROM tag WHERE resource_id = :resource_id ORDER BY key;

-- put_tag
INSERT INTO tag (resource_id, key, value) VALUES (:resource_id, :key, :value)
ON CONFLICT (resource_id, key) DO UPDATE SET value = excluded.value;

-- delete_tag
DELETE FROM tag WHERE resource_id = :resource_id AND key = :key;

-- delete_tags
DELETE FROM tag WHERE resource_id = :resource_id;
