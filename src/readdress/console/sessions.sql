-- insert_session
INSERT INTO console_session (id, access_key_id, created_ms) VALUES (:id, :access_key_id, :now_ms);

-- find_session
SELECT access_key_id FROM console_session WHERE id = :id AND created_ms > :expired_ms;

-- delete_session
DELETE FROM console_session WHERE id = :id;

-- delete_expired_sessions
DELETE FROM console_session WHERE id IN (
    SELECT id FROM console_session WHERE created_ms <= :expired_ms ORDER BY created_ms LIMIT :limit)
