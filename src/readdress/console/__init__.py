"""Pages for people, rendered on the server: every button is an operation of the API, called with the signed-in key."""
