"""TCP: RFC 9293 and what it builds on."""
