-- What nodes share besides.

-- How often an account has called an operation lately, as the time at which it may call as often as ever again.
CREATE TABLE rate (
    account TEXT NOT NULL,
    operation TEXT NOT NULL,
    full_ms BIGINT NOT NULL,
    PRIMARY KEY (account, operation)
) {clustered}
