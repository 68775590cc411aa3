-- The directory: what exists, and what aliases what.

CREATE TABLE instance (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    alias TEXT UNIQUE,
    identity_management_type TEXT NOT NULL,
    directory_id TEXT,
    inbound_calls BIGINT NOT NULL,
    outbound_calls BIGINT NOT NULL,
    created_ms BIGINT NOT NULL
) {clustered};

CREATE INDEX instance_by_account ON instance (account, id);

-- The …_folded columns carry what a search compares, without letter case.
CREATE TABLE email_address (
    id TEXT PRIMARY KEY,
    instance_id TEXT NOT NULL REFERENCES instance (id),
    address TEXT NOT NULL,
    address_key TEXT NOT NULL UNIQUE,
    domain TEXT NOT NULL,
    display_name TEXT,
    description TEXT,
    address_folded TEXT NOT NULL,
    display_name_folded TEXT,
    description_folded TEXT,
    created_ms BIGINT NOT NULL,
    modified_ms BIGINT NOT NULL
) {clustered};

CREATE INDEX email_address_by_instance ON email_address (instance_id, id);
CREATE INDEX email_address_by_domain ON email_address (domain);

-- Each side is unique, so an address has at most one alias and serves at most one primary; that it does not do both
-- is held by locking the two rows of email_address (contract 2.3, 2.5).
CREATE TABLE alias (
    alias_id TEXT PRIMARY KEY REFERENCES email_address (id) ON DELETE CASCADE,
    primary_id TEXT NOT NULL UNIQUE REFERENCES email_address (id) ON DELETE CASCADE,
    created_ms BIGINT NOT NULL,
    CHECK (alias_id <> primary_id)
) {clustered};

CREATE TABLE tag (
    resource_id TEXT NOT NULL,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (resource_id, key)
) {clustered};

CREATE INDEX tag_by_key ON tag (key, value, resource_id);

-- The API: who may call, what was answered to a token, what was changed.

CREATE TABLE access_key (
    id TEXT PRIMARY KEY,
    account TEXT NOT NULL,
    name TEXT NOT NULL,
    sealed_secret BYTEA NOT NULL,
    policy TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    disabled_ms BIGINT
) {clustered};

CREATE TABLE idempotency_token (
    account TEXT NOT NULL,
    operation TEXT NOT NULL,
    token TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    answer TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    PRIMARY KEY (account, operation, token)
) {clustered};

CREATE INDEX idempotency_token_by_age ON idempotency_token (created_ms);

CREATE TABLE audit (
    request_id TEXT PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    account TEXT NOT NULL,
    access_key_id TEXT NOT NULL,
    operation TEXT NOT NULL,
    detail TEXT NOT NULL
) {clustered};

-- Mail: the message once, its content in pieces, and one delivery per inbox that it reached.

CREATE TABLE message (
    id TEXT PRIMARY KEY,
    received_ms BIGINT NOT NULL,
    sender TEXT NOT NULL,
    subject TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    trace TEXT NOT NULL,
    peer TEXT NOT NULL,
    ehlo TEXT NOT NULL,
    tls TEXT
) {clustered};

CREATE TABLE content (
    message_id TEXT NOT NULL,
    part BIGINT NOT NULL,
    bytes BYTEA NOT NULL
);

CREATE UNIQUE INDEX content_by_message ON content (message_id, part);

-- Content that came before its message was accepted; what a broken connection left behind is swept when it expires.
CREATE TABLE staged_content (
    message_id TEXT PRIMARY KEY,
    expires_ms BIGINT NOT NULL
) {clustered};

CREATE TABLE delivery (
    address_id TEXT NOT NULL,
    id TEXT NOT NULL,
    message_id TEXT NOT NULL,
    instance_id TEXT NOT NULL,
    recipients TEXT NOT NULL,
    reasons TEXT NOT NULL,
    PRIMARY KEY (address_id, id)
) {clustered};

CREATE INDEX delivery_by_message ON delivery (message_id)
