-- find_srs_token
SELECT token, used_ms FROM srs WHERE sender = :sender;

-- insert_srs
INSERT INTO srs (sender, token, used_ms) VALUES (:sender, :token, :now_ms) ON CONFLICT DO NOTHING;

-- use_srs
UPDATE srs SET used_ms = :now_ms WHERE sender = :sender;

-- delete_unused_srs
DELETE FROM srs WHERE sender IN (SELECT sender FROM srs WHERE used_ms < :before_ms ORDER BY used_ms LIMIT :limit)
