"""The mail protocol and nothing else: no directory, no database."""
