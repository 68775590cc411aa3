"""SQLite: one file, written by one process at a time, and everything that waits shares a commit."""
