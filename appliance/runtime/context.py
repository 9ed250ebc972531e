"""What every service shares: settings, state, the user database, and the rules for choosing a user and a path."""

from __future__ import annotations

from dataclasses import dataclass

from appliance.runtime import paths
from appliance.runtime.connect.call import Call
from appliance.runtime.connect.errors import Code, ConnectError, invalid
from appliance.runtime.http import HttpError
from appliance.runtime.settings import RuntimeSettings
from appliance.runtime.state import RuntimeState
from appliance.runtime.users import UnknownUser, User, Users


@dataclass(frozen=True, slots=True)
class Context:
    """One per application."""

    settings: RuntimeSettings
    state: RuntimeState
    users: Users

    def rpc_user(self, call: Call) -> User:
        """The user of an RPC: basic auth, else the default. Raises ``ConnectError`` unauthenticated."""
        name = call.user() or self.state.default_user
        if name is None:
            raise ConnectError(Code.UNAUTHENTICATED, "no user specified")
        try:
            return self.users.get(name)
        except UnknownUser:
            raise ConnectError(Code.UNAUTHENTICATED, f"invalid username: '{name}'") from None

    def rpc_path(self, path: str, user: User) -> str:
        """``path`` as ``user`` means it. Raises ``ConnectError`` invalid_argument."""
        try:
            return paths.resolve(path, user, self.state.default_workdir)
        except paths.BadPath as error:
            raise invalid(str(error)) from None

    def rest_user(self, name: str | None) -> User:
        """The user of a REST request: the given name, else the default. Raises ``HttpError`` 401."""
        name = name or self.state.default_user
        if name is None:
            raise HttpError(401, "no user specified")
        try:
            return self.users.get(name)
        except UnknownUser:
            raise HttpError(401, f"error looking up user '{name}': user: unknown user {name}") from None

    def rest_path(self, path: str, user: User) -> str:
        """``path`` as ``user`` means it. Raises ``HttpError`` 400."""
        try:
            return paths.resolve(path, user, self.state.default_workdir)
        except paths.BadPath as error:
            raise HttpError(400, str(error)) from None
