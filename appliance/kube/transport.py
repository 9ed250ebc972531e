"""One HTTP session to the API server: bytes in, bytes out, and every failure as a ``KubeError``.

Nothing here knows about kinds. Requests carry a deadline of their own; a 429 that names a delay is waited out within
that deadline (the server says it did nothing, so this is safe for writes), a 401 reloads the credentials once.
Answers are asked for uncompressed: inside a cluster or a box, processor time is scarcer than bytes.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import sslproto
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from yarl import URL

from appliance.kube import errors
from appliance.kube.credentials import Access, Credentials
from appliance.kube.metrics import KubeMetrics

MAX_LINE = 16 * 1024 * 1024
"""Bytes of one watch event; the API limits objects to some 3 MiB."""
_READ_BUFFER = 256 * 1024
_CONNECT_TIMEOUT = 10.0
_CONNECTIONS = 256
"""Connections at once; requests beyond that wait for one, within their deadline."""

_TLS_LINGERS = sys.version_info < (3, 12, 7) or (3, 13, 0) <= sys.version_info < (3, 13, 1)
"""Whether this Python's asyncio leaves a closed TLS connection open until its peer says goodbye too (aiohttp's own list
of versions). Watches end in mid-answer, so there are many of those: they are cut after two seconds, or at ``close``."""


def _abort(self: Any) -> None:
    """asyncio's, as it is since Python 3.11.7: a TLS transport whose connection is gone may be aborted as well."""
    self._closed = True
    if self._ssl_protocol is not None:
        self._ssl_protocol._abort()


if sys.version_info < (3, 11, 7):  # Debian 12 has 3.11.2: aiohttp aborts those that linger, gone or not
    sslproto._SSLProtocolTransport.abort = _abort  # type: ignore[method-assign]


class Transport:
    """Requests and line streams over one connection pool. Use inside the event loop it was made in."""

    def __init__(self, credentials: Credentials, *, user_agent: str, timeout: float, metrics: KubeMetrics) -> None:
        self._credentials = credentials
        self._timeout = timeout
        self._metrics = metrics
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=_CONNECTIONS, keepalive_timeout=60, enable_cleanup_closed=_TLS_LINGERS
            ),
            headers={"User-Agent": user_agent, "Accept": "application/json", "Accept-Encoding": "identity"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT),
            cookie_jar=aiohttp.DummyCookieJar(),
            read_bufsize=_READ_BUFFER,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close every connection; requests in flight fail."""
        await self._session.close()
        await asyncio.sleep(0)  # sockets are closed in the loop's next round

    async def request(
        self,
        verb: str,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        """The body of a 2xx answer. ``verb`` is what metrics call it.

        Raises ApiError for any other answer, Unreachable, RequestTimeout, ConfigError.
        """
        try:
            async with asyncio.timeout(self._timeout):
                while True:
                    try:
                        return await self._once(verb, method, path, params, body, content_type)
                    except errors.TooManyRequests as refusal:
                        if refusal.retry_after is None:
                            raise
                        await self._wait_or_give_up(refusal)
        except TimeoutError as error:
            self._metrics.requests[verb, "timeout"] += 1
            raise errors.RequestTimeout(f"{method} {path}: no answer in {self._timeout:g} s") from error

    async def _wait_or_give_up(self, refusal: errors.TooManyRequests) -> None:
        """Wait as long as the server asked, unless the deadline would end first: then the refusal is the answer."""
        delay = refusal.retry_after or 0.0
        if delay >= self._timeout / 2:
            raise refusal
        await asyncio.sleep(delay)

    async def _once(
        self, verb: str, method: str, path: str, params: Mapping[str, str] | None, body: bytes | None, content_type: str
    ) -> bytes:
        headers = {"Content-Type": content_type} if body is not None else {}
        async with self._answer(verb, method, path, params, headers, body, None) as response:
            try:
                return await response.read()
            except (aiohttp.ClientError, OSError) as error:
                self._metrics.requests[verb, "unreachable"] += 1
                raise errors.Unreachable(f"{method} {path}: {_say(error)}") from error

    async def look(self, path: str) -> tuple[bytes, Mapping[str, str]]:
        """Body and headers of a GET. Raises as ``request``."""
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._answer("get", "GET", path, None, {}, None, None) as response,
            ):
                return await response.read(), dict(response.headers)
        except TimeoutError as error:
            raise errors.RequestTimeout(f"GET {path}: no answer in {self._timeout:g} s") from error
        except (aiohttp.ClientError, OSError) as error:
            raise errors.Unreachable(f"GET {path}: {_say(error)}") from error

    async def lines(
        self, verb: str, path: str, params: Mapping[str, str], *, inactivity: float
    ) -> AsyncGenerator[bytes, None]:
        """The lines of an endless answer, without their newlines, until the server ends it.

        Raises as ``request``; ``inactivity`` seconds without a byte are a RequestTimeout. Close the iterator
        (``aclosing``) to close the connection.
        """
        async with self._answer(verb, "GET", path, params, {}, None, inactivity) as response:
            try:
                async for line in _split(response.content):
                    yield line
            except TimeoutError as error:
                raise errors.RequestTimeout(f"watch {path}: silent for {inactivity:g} s") from error
            except (aiohttp.ClientError, OSError) as error:
                raise errors.Unreachable(f"watch {path}: {_say(error)}") from error

    @asynccontextmanager
    async def _answer(
        self,
        verb: str,
        method: str,
        path: str,
        params: Mapping[str, str] | None,
        headers: dict[str, str],
        body: bytes | None,
        inactivity: float | None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A 2xx answer with its body still to be read; credentials are renewed once on 401."""
        access = await self._credentials.current()
        response = await self._send(verb, method, access, path, params, headers, body, inactivity)
        if response.status == 401 and await self._credentials.renew(access):
            response.release()
            access = await self._credentials.current()
            response = await self._send(verb, method, access, path, params, headers, body, inactivity)
        async with response:
            if not 200 <= response.status < 300:
                error_body = await _read_error(response)
                raise errors.from_answer(response.status, error_body, response.headers.get("Retry-After"))
            try:
                yield response
            finally:
                _abandon(response)

    async def _send(
        self,
        verb: str,
        method: str,
        access: Access,
        path: str,
        params: Mapping[str, str] | None,
        headers: dict[str, str],
        body: bytes | None,
        inactivity: float | None,
    ) -> aiohttp.ClientResponse:
        """Send and wait for the head of the answer, whatever its status."""
        if self._session.closed:
            raise errors.Unreachable(f"{method} {path}: this connection to the cluster was closed")
        if access.authorization:
            headers = {**headers, "Authorization": access.authorization}
        url = URL(access.server + path, encoded=True)
        try:
            response = await self._session.request(
                method,
                url.with_query(params) if params else url,
                headers=headers,
                data=body,
                ssl=access.tls or True,
                server_hostname=access.server_name,
                proxy=access.proxy,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT, sock_read=inactivity),
                allow_redirects=False,
            )
        except aiohttp.SocketTimeoutError as error:
            self._metrics.requests[verb, "timeout"] += 1
            raise errors.RequestTimeout(f"{method} {path}: no answer in {inactivity} s") from error
        except (aiohttp.ClientError, OSError) as error:
            self._metrics.requests[verb, "unreachable"] += 1
            raise errors.Unreachable(f"{method} {path}: {_say(error)}") from error
        self._metrics.requests[verb, str(response.status)] += 1
        return response


async def _split(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Complete lines of the stream; a rest without newline at the end means it was cut."""
    rest = b""
    async for chunk in content.iter_any():
        lines = (rest + chunk).split(b"\n") if rest else chunk.split(b"\n")
        rest = lines.pop()
        for line in lines:
            if line:
                yield line
        if len(rest) > MAX_LINE:
            raise errors.Unreachable(f"the watch sent a line of more than {MAX_LINE} bytes")
    if rest:
        raise errors.Unreachable("the watch ended in the middle of a line")


async def _read_error(response: aiohttp.ClientResponse) -> bytes:
    """The start of a refusal's body; a refusal whose body breaks off is still that refusal."""
    body = b""
    try:
        async for chunk in response.content.iter_any():
            body += chunk
            if len(body) >= _READ_BUFFER:
                break
    except (aiohttp.ClientError, OSError):
        pass
    return body


def _abandon(response: aiohttp.ClientResponse) -> None:
    """Cut the connection of an answer that was not read to its end (a watch that is closed, a read that is cancelled).

    Left alone it would be closed too, but with a TLS farewell that nobody waits for and that outlives the session.
    """
    connection = response.connection
    if connection is not None and connection.transport is not None:
        connection.transport.abort()


def _say(error: BaseException) -> str:
    return str(error) or type(error).__name__
