"""Transactions on PostgreSQL, for any number of nodes: what they share is in the database and nowhere else."""
