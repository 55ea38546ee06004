"""The relay's logic, pure: login of both ends, the client's machine, and the relay itself."""
