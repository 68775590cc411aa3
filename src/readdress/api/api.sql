-- find_access_key
SELECT id, account, name, sealed_secret, policy, created_ms, disabled_ms FROM access_key WHERE id = :id;

-- list_access_keys
SELECT id, account, name, sealed_secret, policy, created_ms, disabled_ms FROM access_key ORDER BY created_ms, id;

-- insert_access_key
INSERT INTO access_key (id, account, name, sealed_secret, policy, created_ms)
VALUES (:id, :account, :name, :sealed_secret, :policy, :created_ms)
ON CONFLICT (id) DO NOTHING;

-- disable_access_key
UPDATE access_key SET disabled_ms = :disabled_ms WHERE id = :id AND disabled_ms IS NULL;

-- find_token
SELECT fingerprint, answer, created_ms FROM idempotency_token
WHERE account = :account AND operation = :operation AND token = :token;

-- delete_token
DELETE FROM idempotency_token WHERE account = :account AND operation = :operation AND token = :token;

-- insert_token
-- Fails where somebody else has just stored one.
INSERT INTO idempotency_token (account, operation, token, fingerprint, answer, created_ms)
VALUES (:account, :operation, :token, :fingerprint, :answer, :now_ms);

-- delete_expired_tokens
DELETE FROM idempotency_token WHERE (account, operation, token) IN (
    SELECT account, operation, token FROM idempotency_token WHERE created_ms <= :expired_ms
    ORDER BY created_ms LIMIT :limit);

-- insert_audit
INSERT INTO audit (request_id, at_ms, account, access_key_id, operation, detail)
VALUES (:request_id, :at_ms, :account, :access_key_id, :operation, :detail);

-- list_audit
-- The newest first: ids of requests are in the order of time.
SELECT request_id, at_ms, account, access_key_id, operation, detail FROM audit
WHERE request_id < :before_id ORDER BY request_id DESC LIMIT :limit;

-- see_node
INSERT INTO node (id, name, version, started_ms, seen_ms) VALUES (:id, :name, :version, :now_ms, :now_ms)
ON CONFLICT (id) DO UPDATE SET seen_ms = :now_ms;

-- forget_nodes
DELETE FROM node WHERE seen_ms < :before_ms;

-- forget_node
DELETE FROM node WHERE id = :id;

-- list_nodes
SELECT id, name, version, started_ms, seen_ms FROM node ORDER BY started_ms, id LIMIT :limit;

-- take_call
-- Changes one row where the bucket has a call left, none where it is empty.
INSERT INTO rate (account, operation, full_ms) VALUES (:account, :operation, :now_ms + :interval_ms)
ON CONFLICT (account, operation) DO UPDATE
SET full_ms = CASE WHEN rate.full_ms > :now_ms THEN rate.full_ms ELSE :now_ms END + :interval_ms
WHERE rate.full_ms <= :latest_ms;

-- find_bucket
SELECT full_ms FROM rate WHERE account = :account AND operation = :operation;

-- empty_bucket
UPDATE rate SET full_ms = :full_ms WHERE account = :account AND operation = :operation
