-- insert_entry
INSERT INTO spool (delivery_id, address_id, message_id, transport, queued_ms, due_ms, attempts, lease_owner,
    leased_until_ms, delay_told)
VALUES (:delivery_id, :address_id, :message_id, :transport, :now_ms, :now_ms, 0, '', 0, 0);

-- list_due
SELECT delivery_id, address_id, message_id, transport, queued_ms, due_ms, attempts, delay_told, lease_owner
FROM spool WHERE transport = :transport AND due_ms <= :now_ms AND leased_until_ms <= :now_ms
ORDER BY due_ms LIMIT :limit {lock_skip};

-- find_due
SELECT 1 FROM spool WHERE transport = :transport AND due_ms <= :now_ms AND leased_until_ms <= :now_ms LIMIT 1;

-- lease
-- Changes one row for the first who asks, none for those who come second.
UPDATE spool SET lease_owner = :owner, leased_until_ms = :until_ms, attempts = attempts + 1
WHERE delivery_id = :delivery_id AND leased_until_ms <= :now_ms AND due_ms <= :now_ms;

-- renew
UPDATE spool SET leased_until_ms = :until_ms
WHERE delivery_id = :delivery_id AND lease_owner = :owner AND leased_until_ms > :now_ms;

-- release
UPDATE spool SET lease_owner = '', leased_until_ms = 0 WHERE lease_owner = :owner;

-- lock_entry
SELECT delivery_id FROM spool WHERE delivery_id = :delivery_id {lock};

-- find_entry
SELECT delivery_id, address_id, message_id, transport, queued_ms, due_ms, attempts, delay_told, lease_owner
FROM spool WHERE delivery_id = :delivery_id;

-- list_entries
SELECT delivery_id, address_id, message_id, transport, queued_ms, due_ms, attempts, delay_told, lease_owner
FROM spool WHERE delivery_id > :after ORDER BY delivery_id LIMIT :limit;

-- count_entries
SELECT transport, state, COUNT(*), MIN(queued_ms)
FROM (
    SELECT transport, queued_ms,
        CASE WHEN due_ms = :never_ms THEN 'failed' WHEN leased_until_ms > :now_ms THEN 'trying'
            WHEN due_ms <= :now_ms THEN 'due' ELSE 'waiting' END AS state
    FROM spool LIMIT :limit
) AS entry
GROUP BY transport, state;

-- list_transports
SELECT DISTINCT transport FROM spool WHERE due_ms <= :now_ms;

-- postpone
UPDATE spool SET due_ms = :due_ms, lease_owner = '', leased_until_ms = 0 WHERE delivery_id = :delivery_id;

-- restart
UPDATE spool SET due_ms = :now_ms, queued_ms = :now_ms, delay_told = 0 WHERE delivery_id = :delivery_id;

-- note_delay_told
UPDATE spool SET delay_told = 1 WHERE delivery_id = :delivery_id;

-- delete_entry
DELETE FROM spool WHERE delivery_id = :delivery_id;

-- insert_attempt
INSERT INTO attempt (delivery_id, number, at_ms, duration_ms, outcome, remote, tls, reply, address_id)
VALUES (:delivery_id, :number, :at_ms, :duration_ms, :outcome, :remote, :tls, :reply, :address_id)
ON CONFLICT (delivery_id, number) DO NOTHING;

-- delete_attempts
DELETE FROM attempt WHERE delivery_id = :delivery_id;

-- list_attempts
SELECT delivery_id, number, at_ms, duration_ms, outcome, remote, tls, reply, address_id
FROM attempt WHERE delivery_id = :delivery_id ORDER BY number
