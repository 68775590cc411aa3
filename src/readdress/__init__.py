"""Readdress: email addresses and aliases with Amazon Connect's API, and the mail server that obeys them."""

__version__ = "0.1.0"
