"""HTTP in, one operation called, HTTP out."""
