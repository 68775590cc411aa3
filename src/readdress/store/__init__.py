"""A transaction on a database; which database it is, nobody else knows."""
