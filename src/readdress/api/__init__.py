"""One declaration per operation: what it takes, what it answers, what it may refuse, and the function that does it."""
