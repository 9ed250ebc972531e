"""Header rules of a pod: read from the Secret that its policy's revision names, for the filter."""

from __future__ import annotations

import aiohttp

from appliance.api.egress import Egress
from appliance.api.header_rules import HeaderRules, from_data, secret_name
from appliance.embedded.node.apiclient import ApiClient, ApiRefused


class RulesMissing(OSError):
    """There is no such Secret (yet), or it holds no rules; the text has nothing of its content."""


class RulesReader:
    """Of one pod, which has its sandbox's name."""

    def __init__(self, api: ApiClient, namespace: str, sandbox: str) -> None:
        self._api, self._namespace, self._sandbox = api, namespace, sandbox

    async def of(self, egress: Egress) -> HeaderRules | None:
        """The rules of this policy; None when it has none. Raises ``RulesMissing``, ``OSError`` (ask again)."""
        if not egress.rules:
            return None
        name = secret_name(self._sandbox, egress.rules)
        try:
            found = await self._api.call("GET", f"/api/v1/namespaces/{self._namespace}/secrets/{name}")
            return from_data(found.get("data") or {})
        except ValueError as error:
            raise RulesMissing(f"header rules: Secret {name}: {error}") from None
        except ApiRefused as error:
            kind = RulesMissing if error.status == 404 else OSError
            raise kind(f"header rules: Secret {name}: {error}") from None
        except (aiohttp.ClientError, TimeoutError) as error:
            raise OSError(f"header rules: Secret {name}: {error}") from None
