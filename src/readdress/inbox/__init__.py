"""Accepted messages: each stored once, with one delivery for every inbox it reached."""
