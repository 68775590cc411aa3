"""The spool: deliveries on their way out, leased by the node that tries them, and a record of every try."""
