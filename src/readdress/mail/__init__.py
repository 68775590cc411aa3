"""The mail plane: what comes in by SMTP is routed by the directory and made durable before it is acknowledged."""
