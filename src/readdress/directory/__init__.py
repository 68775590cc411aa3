"""Which instances and addresses exist, what aliases what, and where mail for one goes."""
