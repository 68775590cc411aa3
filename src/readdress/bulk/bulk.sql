-- find_instance
SELECT id FROM instance WHERE account = :account AND (id = :name OR alias = :name) ORDER BY id LIMIT 1;

-- find_known
-- Addresses by their keys, each with the primary that it serves and the alias that serves it.
SELECT e.address_key, e.id, e.instance_id, e.address, e.display_name, e.description, s.primary_id, p.alias_id
FROM {texts}
JOIN email_address e ON e.address_key = texts.value
LEFT JOIN alias s ON s.alias_id = e.id
LEFT JOIN alias p ON p.primary_id = e.id;

-- lock_known
-- In the order of keys, as everybody locks addresses.
SELECT id FROM email_address WHERE address_key IN (SELECT value FROM {texts}) ORDER BY address_key {lock};

-- list_tags
SELECT t.resource_id, t.key, t.value FROM {texts} JOIN tag t ON t.resource_id = texts.value;

-- put_audit
-- One row an import, which grows with each of its transactions.
INSERT INTO audit (request_id, at_ms, account, access_key_id, operation, detail)
VALUES (:request_id, :at_ms, :account, '', :operation, :detail)
ON CONFLICT (request_id) DO UPDATE SET detail = excluded.detail;

-- page_addresses
-- An instance's addresses that are no alias, in the order of keys; the expression keeps both engines to that index.
SELECT e.id, e.address_key, e.address, e.display_name, e.description, NULL FROM email_address e
WHERE e.instance_id || '' = :instance_id AND e.address_key > :after
    AND NOT EXISTS (SELECT 1 FROM alias r WHERE r.alias_id = e.id)
ORDER BY e.address_key LIMIT :limit;

-- page_aliases
SELECT e.id, e.address_key, e.address, e.display_name, e.description, p.address
FROM email_address e JOIN alias r ON r.alias_id = e.id JOIN email_address p ON p.id = r.primary_id
WHERE e.instance_id || '' = :instance_id AND e.address_key > :after
ORDER BY e.address_key LIMIT :limit;

-- find_partners
-- The keys of the other ends of the relations of some addresses.
SELECT p.address_key FROM {texts}
JOIN email_address e ON e.address_key = texts.value
JOIN alias r ON r.alias_id = e.id JOIN email_address p ON p.id = r.primary_id
UNION
SELECT a.address_key FROM {texts}
JOIN email_address e ON e.address_key = texts.value
JOIN alias r ON r.primary_id = e.id JOIN email_address a ON a.id = r.alias_id;

-- find_rows
SELECT e.id, e.instance_id, e.address, e.address_key, e.display_name, e.description, e.created_ms
FROM {texts} JOIN email_address e ON e.address_key = texts.value;

-- find_relations
SELECT r.alias_id, r.primary_id, r.created_ms FROM {texts} JOIN alias r ON r.alias_id = texts.value;

-- copy_relation
INSERT INTO alias (alias_id, primary_id, created_ms) VALUES (:alias_id, :primary_id, :created_ms)
ON CONFLICT DO NOTHING;

-- copy_instance
INSERT INTO instance (id, account, identity_management_type, inbound_calls, outbound_calls, created_ms)
VALUES (:id, '', '', 0, 0, 0)
ON CONFLICT DO NOTHING;

-- list_keys
SELECT address_key FROM email_address WHERE instance_id = :instance_id LIMIT :limit;
