"""Connect's error codes and the error that handlers raise.

A unary call answers an error as an HTTP status with a JSON body; a stream carries it in its last envelope. Either way
the handler raises ``ConnectError`` and ``connect.rpc`` does the rest.

::

    ConnectError(code, message)     # code is one of ``Code``
"""

from __future__ import annotations

from enum import Enum


class Code(Enum):
    """Connect's codes: ``value`` is the name on the wire, ``http`` the status of a unary answer."""

    CANCELED = ("canceled", 499)
    UNKNOWN = ("unknown", 500)
    INVALID_ARGUMENT = ("invalid_argument", 400)
    DEADLINE_EXCEEDED = ("deadline_exceeded", 504)
    NOT_FOUND = ("not_found", 404)
    ALREADY_EXISTS = ("already_exists", 409)
    PERMISSION_DENIED = ("permission_denied", 403)
    RESOURCE_EXHAUSTED = ("resource_exhausted", 429)
    FAILED_PRECONDITION = ("failed_precondition", 400)
    UNIMPLEMENTED = ("unimplemented", 501)
    INTERNAL = ("internal", 500)
    UNAVAILABLE = ("unavailable", 503)
    UNAUTHENTICATED = ("unauthenticated", 401)

    def __init__(self, wire: str, http: int) -> None:
        self.wire = wire
        self.http = http


class ConnectError(Exception):
    """An answer to the client, not a fault of the runtime."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(f"{code.wire}: {message}")
        self.code = code
        self.message = message

    def body(self) -> dict[str, str]:
        """The JSON object of the error."""
        return {"code": self.code.wire, "message": self.message}


def invalid(message: str) -> ConnectError:
    """``invalid_argument``: the request itself is wrong; the message names the field and what was expected."""
    return ConnectError(Code.INVALID_ARGUMENT, message)


def not_found(message: str) -> ConnectError:
    """``not_found``."""
    return ConnectError(Code.NOT_FOUND, message)
