-- Which call of the API began or ended a relation; empty for what no call did.
ALTER TABLE alias_history ADD COLUMN request_id TEXT NOT NULL DEFAULT ''
