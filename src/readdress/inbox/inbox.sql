-- insert_message
INSERT INTO message (id, received_ms, sender, subject, size_bytes, trace, peer, ehlo, tls)
VALUES (:id, :received_ms, :sender, :subject, :size_bytes, :trace, :peer, :ehlo, :tls);

-- insert_content
INSERT INTO content (message_id, part, bytes) VALUES (:message_id, :part, :bytes);

-- insert_delivery
INSERT INTO delivery (address_id, id, message_id, instance_id, recipients, reasons)
VALUES (:address_id, :id, :message_id, :instance_id, :recipients, :reasons);

-- begin_staging
INSERT INTO staged_content (message_id, expires_ms) VALUES (:message_id, :expires_ms);

-- prolong_staging
UPDATE staged_content SET expires_ms = :expires_ms WHERE message_id = :message_id;

-- end_staging
DELETE FROM staged_content WHERE message_id = :message_id;

-- list_expired_staging
SELECT message_id FROM staged_content WHERE expires_ms < :now_ms LIMIT :limit;

-- delete_content
DELETE FROM content WHERE message_id = :message_id;

-- list_inbox
SELECT m.id, d.id, m.sender, d.recipients, d.reasons, m.subject, m.size_bytes, m.received_ms
FROM delivery d JOIN message m ON m.id = d.message_id
WHERE d.address_id = :address_id AND d.id < :before_id
ORDER BY d.id DESC LIMIT :limit;

-- find_delivery
SELECT 1 FROM delivery WHERE message_id = :message_id AND address_id = :address_id;

-- find_message
SELECT id, received_ms, sender, subject, size_bytes, trace, peer, ehlo, tls FROM message WHERE id = :id;

-- list_deliveries
SELECT d.id, d.address_id, a.address, d.recipients, d.reasons
FROM delivery d LEFT JOIN email_address a ON a.id = d.address_id
WHERE d.message_id = :message_id AND d.instance_id = :instance_id
ORDER BY d.id;

-- list_content
SELECT bytes FROM content WHERE message_id = :message_id ORDER BY part
