"""SQLite: one file, in which processes take turns at writing, and everything that waits shares a commit."""
