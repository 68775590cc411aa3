-- Who is signed in to the console; what a browser holds is a secret that only its digest is kept of.

CREATE TABLE console_session (
    id TEXT PRIMARY KEY,
    access_key_id TEXT NOT NULL,
    created_ms BIGINT NOT NULL
) {clustered};

CREATE INDEX console_session_by_age ON console_session (created_ms)
