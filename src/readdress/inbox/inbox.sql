-- insert_message
INSERT INTO message (id, received_ms, sender, subject, size_bytes, trace, peer, ehlo, tls, body, smtputf8, ret,
    envelope_id, verdicts)
VALUES (:id, :received_ms, :sender, :subject, :size_bytes, :trace, :peer, :ehlo, :tls, :body, :smtputf8, :ret,
    :envelope_id, :verdicts);

-- insert_content
INSERT INTO content (message_id, part, bytes) VALUES (:message_id, :part, :bytes);

-- insert_delivery
INSERT INTO delivery (address_id, id, message_id, instance_id, recipients, reasons, transport, state, next_hop, notices)
VALUES (:address_id, :id, :message_id, :instance_id, :recipients, :reasons, :transport, :state, :next_hop, :notices);

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
-- A release goes on from the inbox, and is not in it.
SELECT m.id, d.id, m.sender, d.recipients, d.reasons, m.subject, m.size_bytes, m.received_ms, d.transport, d.state
FROM delivery d JOIN message m ON m.id = d.message_id
WHERE d.address_id = :address_id AND d.id < :before_id AND d.reasons NOT LIKE '%"RELEASED"%'
ORDER BY d.id DESC LIMIT :limit;

-- list_settled
-- In the order of messages, in which they are locked.
SELECT id, message_id FROM delivery WHERE address_id = :address_id AND state NOT IN ('QUEUED', 'FAILED')
ORDER BY message_id LIMIT :limit;

-- delete_delivery
DELETE FROM delivery WHERE address_id = :address_id AND id = :id;

-- delete_message
-- Unless it has another delivery, of which there is still something to tell.
DELETE FROM message WHERE id = :message_id AND NOT EXISTS (
    SELECT 1 FROM delivery WHERE message_id = :message_id);

-- find_delivery
SELECT 1 FROM delivery WHERE message_id = :message_id AND address_id = :address_id;

-- find_message
SELECT id, received_ms, sender, subject, size_bytes, trace, peer, ehlo, tls, body, smtputf8, ret, envelope_id, verdicts
FROM message WHERE id = :id;

-- list_messages
-- The newest first; ids are in the order of time.
SELECT id, received_ms, sender, subject, size_bytes, trace, peer, ehlo, tls, body, smtputf8, ret, envelope_id, verdicts
FROM message WHERE id >= :since_id ORDER BY id DESC LIMIT :limit;

-- list_deliveries
SELECT d.id, d.address_id, d.message_id, d.instance_id, a.address, d.recipients, d.reasons, d.transport, d.state,
    d.next_hop, d.notices
FROM delivery d LEFT JOIN email_address a ON a.id = d.address_id
WHERE d.message_id = :message_id
ORDER BY d.id;

-- list_passed_on
SELECT address_id FROM delivery WHERE message_id = :message_id AND transport NOT IN ('inbox', 'discard');

-- get_delivery
SELECT d.id, d.address_id, d.message_id, d.instance_id, a.address, d.recipients, d.reasons, d.transport, d.state,
    d.next_hop, d.notices
FROM delivery d LEFT JOIN email_address a ON a.id = d.address_id
WHERE d.address_id = :address_id AND d.id = :id;

-- update_state
UPDATE delivery SET state = :state, keeps_content = :keeps_content WHERE address_id = :address_id AND id = :id;

-- list_content
SELECT bytes FROM content WHERE message_id = :message_id ORDER BY part;

-- find_part
SELECT bytes FROM content WHERE message_id = :message_id AND part = :part;

-- lock_message
-- Of two last deliveries that settle at a time, the second has to see the first.
SELECT id FROM message WHERE id = :message_id {lock};

-- find_need_of_content
-- A delivery for which the content has to stay: it is in an inbox, waits, has failed, or is kept on request.
SELECT 1 FROM delivery WHERE message_id = :message_id
    AND (state IN ('QUEUED', 'FAILED') OR (state = 'DELIVERED' AND transport = 'inbox') OR keeps_content = 1) LIMIT 1
