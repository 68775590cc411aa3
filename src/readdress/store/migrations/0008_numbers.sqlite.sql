-- Who publishes addresses numbers them, many with one statement: a trigger took longer than all of the rest.

DROP TRIGGER number_address
