-- What pages and operators look at: tries in the order of time, and the processes that share the database.

-- Whose delivery it was; empty for tries of before.
ALTER TABLE attempt ADD COLUMN address_id TEXT NOT NULL DEFAULT '';

CREATE INDEX attempt_by_time ON attempt (at_ms, delivery_id);

-- A process of the service, which says now and then that it lives.
CREATE TABLE node (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    started_ms BIGINT NOT NULL,
    seen_ms BIGINT NOT NULL
) {clustered}
