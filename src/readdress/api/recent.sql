-- list_flow
-- How mail came to an address lately, the newest first.
SELECT id, reasons FROM delivery
WHERE address_id = :address_id AND id >= :since_id AND reasons NOT LIKE '%"RELEASED"%'
ORDER BY id DESC LIMIT :limit;

-- list_arrivals
-- Deliveries of an instance, the newest messages first, among so many of all instances.
SELECT d.message_id, d.id, d.address_id, d.recipients, d.reasons, d.transport, d.state,
    m.received_ms, m.sender, m.subject, a.address
FROM (
    SELECT message_id, id, address_id, instance_id, recipients, reasons, transport, state
    FROM delivery WHERE message_id < :before_id ORDER BY message_id DESC LIMIT :examined
) AS d JOIN message m ON m.id = d.message_id LEFT JOIN email_address a ON a.id = d.address_id
WHERE d.instance_id = :instance_id
ORDER BY d.message_id DESC, d.id;

-- find_last_examined
-- Where a list of arrivals goes on: the oldest message that it looked at, and how many deliveries that were.
SELECT MIN(message_id), COUNT(*) FROM (
    SELECT message_id FROM delivery WHERE message_id < :before_id ORDER BY message_id DESC LIMIT :examined) AS seen;

-- list_tries
-- Tries to deliver mail of an instance, the newest first, among so many of all instances.
SELECT t.at_ms, t.delivery_id, t.number, t.duration_ms, t.outcome, t.remote, t.reply, d.message_id, d.address_id,
    d.transport, d.instance_id
FROM (
    SELECT at_ms, delivery_id, number, duration_ms, outcome, remote, reply, address_id
    FROM attempt WHERE at_ms >= :since_ms AND (at_ms, delivery_id) < (:before_ms, :before_id)
    ORDER BY at_ms DESC, delivery_id DESC LIMIT :examined
) AS t LEFT JOIN delivery d ON d.address_id = t.address_id AND d.id = t.delivery_id
ORDER BY t.at_ms DESC, t.delivery_id DESC;

-- count_arrivals
-- By minute and state, of the newest so many deliveries of all instances.
SELECT m.received_ms / 60000 AS minute, d.state, COUNT(*)
FROM (
    SELECT message_id, instance_id, state FROM delivery WHERE message_id >= :since_id
    ORDER BY message_id DESC LIMIT :examined
) AS d JOIN message m ON m.id = d.message_id
WHERE d.instance_id = :instance_id
GROUP BY 1, 2;

-- count_examined
SELECT COUNT(*) FROM (SELECT 1 FROM delivery WHERE message_id >= :since_id LIMIT :examined) AS seen;

-- list_waiting
-- What an instance has in the spool, in the order in which it came, among so many of all instances.
SELECT s.delivery_id, s.address_id, s.message_id, s.transport, s.queued_ms, s.due_ms, s.attempts, s.leased_until_ms,
    d.instance_id, a.address
FROM (
    SELECT delivery_id, address_id, message_id, transport, queued_ms, due_ms, attempts, leased_until_ms
    FROM spool WHERE delivery_id > :after_id ORDER BY delivery_id LIMIT :examined
) AS s LEFT JOIN delivery d ON d.address_id = s.address_id AND d.id = s.delivery_id
    LEFT JOIN email_address a ON a.id = s.address_id
ORDER BY s.delivery_id;

-- count_waiting
SELECT s.transport, s.state, COUNT(*), MIN(s.queued_ms)
FROM (
    SELECT delivery_id, address_id, transport, queued_ms,
        CASE WHEN due_ms = :never_ms THEN 'FAILED' WHEN leased_until_ms > :now_ms THEN 'TRYING'
            WHEN due_ms <= :now_ms THEN 'DUE' ELSE 'WAITING' END AS state
    FROM spool LIMIT :examined
) AS s JOIN delivery d ON d.address_id = s.address_id AND d.id = s.delivery_id
WHERE d.instance_id = :instance_id
GROUP BY s.transport, s.state ORDER BY s.transport, s.state
