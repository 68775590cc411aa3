-- Mail that goes on from here: what its envelope asked, how each delivery fares, and what waits for its next try.

ALTER TABLE message ADD COLUMN body TEXT NOT NULL DEFAULT '8BITMIME';
ALTER TABLE message ADD COLUMN smtputf8 BIGINT NOT NULL DEFAULT 0;
ALTER TABLE message ADD COLUMN ret TEXT NOT NULL DEFAULT '';
ALTER TABLE message ADD COLUMN envelope_id TEXT NOT NULL DEFAULT '';
-- What the checks of the sender found, as JSON; empty where none were made.
ALTER TABLE message ADD COLUMN verdicts TEXT NOT NULL DEFAULT '';

ALTER TABLE delivery ADD COLUMN transport TEXT NOT NULL DEFAULT 'inbox';
ALTER TABLE delivery ADD COLUMN state TEXT NOT NULL DEFAULT 'DELIVERED';
ALTER TABLE delivery ADD COLUMN keeps_content BIGINT NOT NULL DEFAULT 0;
-- Where it goes on to, and what its sender asked about notices (RFC 3461), as JSON; empty where nothing was asked.
ALTER TABLE delivery ADD COLUMN next_hop TEXT NOT NULL DEFAULT '';
ALTER TABLE delivery ADD COLUMN notices TEXT NOT NULL DEFAULT '';

-- A delivery that waits, or is leased to a node that tries it; the row goes away with the outcome.
CREATE TABLE spool (
    delivery_id TEXT PRIMARY KEY,
    address_id TEXT NOT NULL,
    message_id TEXT NOT NULL,
    transport TEXT NOT NULL,
    queued_ms BIGINT NOT NULL,
    due_ms BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    lease_owner TEXT NOT NULL,
    leased_until_ms BIGINT NOT NULL,
    delay_told BIGINT NOT NULL
) {clustered};

CREATE INDEX spool_by_due ON spool (transport, due_ms);

CREATE TABLE attempt (
    delivery_id TEXT NOT NULL,
    number BIGINT NOT NULL,
    at_ms BIGINT NOT NULL,
    duration_ms BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    remote TEXT NOT NULL,
    tls TEXT NOT NULL,
    reply TEXT NOT NULL,
    PRIMARY KEY (delivery_id, number)
) {clustered};

-- The sender that a rewritten envelope sender stands for (SRS), until it is too long unused.
CREATE TABLE srs (
    sender TEXT PRIMARY KEY,
    token TEXT NOT NULL UNIQUE,
    used_ms BIGINT NOT NULL
) {clustered};

CREATE INDEX srs_by_use ON srs (used_ms);

-- Every relation that began or ended, so that a message's way can be told afterwards.
CREATE TABLE alias_history (
    alias_id TEXT NOT NULL,
    id TEXT NOT NULL,
    primary_id TEXT NOT NULL,
    at_ms BIGINT NOT NULL,
    change TEXT NOT NULL,
    PRIMARY KEY (alias_id, id)
) {clustered};

CREATE INDEX alias_history_by_primary ON alias_history (primary_id, id)
