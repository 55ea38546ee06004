"""Every error that Tailbox raises on purpose.

```text
TailboxError
├─ WireError            bytes that are not what they claim; caught once, at an engine's edge
│  ├─ Truncated
│  ├─ Malformed
│  └─ UnsupportedVersion
├─ ProtocolError
│  ├─ LocalProtocolError    we called out of turn: a bug of ours
│  └─ RemoteProtocolError   they did: the connection closes
├─ AuthenticationError  says "failed" and no more
├─ PolicyError          where in the document, and what is wrong there
├─ RequestError         mapped to HTTP statuses by one table
│  ├─ Invalid, Unauthorized, Forbidden, NotFound, Conflict
└─ ConfigError          setting, value, why
```
"""

from __future__ import annotations


class TailboxError(Exception):
    """Base of everything below."""


class WireError(TailboxError):
    """Bytes from a peer that do not decode."""


class Truncated(WireError):
    """The bytes end before the message does."""


class Malformed(WireError):
    """The bytes are complete and wrong."""


class UnsupportedVersion(WireError):
    """A well-formed message of a version that we do not speak."""


class ProtocolError(TailboxError):
    """A legal message at an illegal moment."""


class LocalProtocolError(ProtocolError):
    """We sent out of turn."""


class RemoteProtocolError(ProtocolError):
    """The other end sent out of turn."""


class AuthenticationError(TailboxError):
    """A signature, tag or credential did not verify."""

    def __init__(self) -> None:
        super().__init__("authentication failed")


class PolicyError(TailboxError):
    """The access policy does not parse or contradicts itself. Positions count from 1."""

    def __init__(self, message: str, *, line: int = 0, column: int = 0) -> None:
        super().__init__(f"line {line}, column {column}: {message}" if line else message)
        self.message = message
        self.line = line
        self.column = column


class RequestError(TailboxError):
    """A request that cannot be served; the text goes to whoever asked."""


class Invalid(RequestError):
    """The request itself is wrong."""


class Unauthorized(RequestError):
    """No credential, or one that is not valid."""


class Forbidden(RequestError):
    """A valid credential without the right to do this."""


class NotFound(RequestError):
    """What the request names does not exist."""


class Conflict(RequestError):
    """What the request asks for is taken or contradicts the present state."""


class ConfigError(TailboxError):
    """A setting that cannot be used. Raises before anything starts."""

    def __init__(self, setting: str, value: object, why: str) -> None:
        super().__init__(f"{setting}: {why} (got {value!r})")
        self.setting = setting
        self.value = value
        self.why = why
