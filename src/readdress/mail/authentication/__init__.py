"""What a sender's identity is worth: SPF, DKIM, ARC and DMARC of one message, and the field that says so.

Functions without state, to be called from a thread; what they want from DNS they ask a Resolver that is handed in.
"""
