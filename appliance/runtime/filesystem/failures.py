"""``OSError`` to the answer a client understands, once for RPC and once for REST."""

from __future__ import annotations

import errno
from typing import Final

from appliance.runtime.connect.errors import Code, ConnectError
from appliance.runtime.http import HttpError

_CODES: Final = {
    errno.ENOENT: Code.NOT_FOUND,
    errno.ENOTDIR: Code.INVALID_ARGUMENT,
    errno.EISDIR: Code.INVALID_ARGUMENT,
    errno.EINVAL: Code.INVALID_ARGUMENT,
    errno.ENAMETOOLONG: Code.INVALID_ARGUMENT,
    errno.EEXIST: Code.ALREADY_EXISTS,
    errno.ENOTEMPTY: Code.ALREADY_EXISTS,
    errno.EACCES: Code.PERMISSION_DENIED,
    errno.EPERM: Code.PERMISSION_DENIED,
    errno.EROFS: Code.PERMISSION_DENIED,
    errno.ELOOP: Code.FAILED_PRECONDITION,
    errno.ENOSPC: Code.RESOURCE_EXHAUSTED,
    errno.EDQUOT: Code.RESOURCE_EXHAUSTED,
    errno.EMFILE: Code.RESOURCE_EXHAUSTED,
    errno.ENFILE: Code.RESOURCE_EXHAUSTED,
}
_STATUSES: Final = {
    Code.NOT_FOUND: 404,
    Code.INVALID_ARGUMENT: 400,
    Code.ALREADY_EXISTS: 400,
    Code.PERMISSION_DENIED: 403,
    Code.FAILED_PRECONDITION: 400,
}
NO_SPACE: Final = "not enough disk space available"


def rpc_error(error: OSError, path: str) -> ConnectError:
    """The Connect error for a failed operation on ``path``."""
    code = _CODES.get(error.errno or 0, Code.INTERNAL)
    if code is Code.NOT_FOUND:
        return ConnectError(code, f"path not found: {path}")
    if code is Code.FAILED_PRECONDITION:
        return ConnectError(code, f"{path}: cyclic symlink, or too many of them in a row")
    return ConnectError(code, f"{path}: {error.strerror}")


def rest_error(error: OSError, path: str) -> HttpError:
    """The HTTP error for a failed operation on ``path``."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return HttpError(507, NO_SPACE)
    status = _STATUSES.get(_CODES.get(error.errno or 0, Code.INTERNAL), 500)
    if status == 404:
        return HttpError(404, f"path '{path}' does not exist")
    return HttpError(status, f"path '{path}': {error.strerror}")
