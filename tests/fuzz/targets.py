"""What is fuzzed: one function per exposed parser, from raw bytes to assertions.

Each target feeds bytes as a stranger sends them. Refusing them with the parser's own error is fine; any other exception
and any broken promise (another reading of the same bytes, an answer that depends on how they were cut) is a finding.
The same functions serve three callers: ``packaging/fuzz.sh`` (atheris, guided by coverage), ``test_corpus.py`` (replays
earlier findings) and ``test_fuzz_properties.py`` (Hypothesis).
"""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import AsyncIterator, Callable
from urllib.parse import unquote_to_bytes

import h11

from appliance.box import resolver
from appliance.dns import wire as answers
from appliance.embedded.filter import heads, rewriting
from appliance.gateway import target as routes
from appliance.gateway.bodies import BodyError, ChunkedBody
from appliance.gateway.request_head import BadRequest, RequestHead, RequestReader
from appliance.gateway.response_head import BadResponse, ResponseReader
from appliance.manager import listing
from appliance.manager.errors import Fault
from appliance.runtime import paths
from appliance.runtime.connect import envelope, jsonform, wire
from appliance.runtime.connect.errors import ConnectError
from appliance.runtime.connect.message import Message
from appliance.runtime.files import conditions
from appliance.runtime.files.multipart import MultipartParser, PartEnd, PartStart, boundary_of
from appliance.runtime.filesystem import messages as filesystem
from appliance.runtime.http import HttpError
from appliance.runtime.process import messages as process
from appliance.runtime.users import User

MESSAGES: tuple[type[Message], ...] = tuple(
    value
    for module in (process, filesystem)
    for value in vars(module).values()
    if isinstance(value, type) and issubclass(value, Message) and value is not Message
)
"""Every message of the two services."""
TARGETS: dict[str, Callable[[bytes], None]] = {}
LIMIT = 1 << 20
"""Bytes of the largest message that the framing takes here."""


def target(function: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Register a target under its function's name."""
    TARGETS[function.__name__] = function
    return function


def cuts(data: bytes) -> list[int]:
    """Places to cut ``data``, chosen by the data itself: a finding is then one file."""
    seed = sum(data) + len(data)
    return sorted({seed % (len(data) + 1), seed * 7 % (len(data) + 1), seed * 31 % (len(data) + 1)})


def pieces(data: bytes, at: list[int]) -> list[bytes]:
    """``data`` in pieces."""
    return [data[start:end] for start, end in zip([0, *at], [*at, len(data)], strict=True)]


# HTTP ---------------------------------------------------------------------------------------------------------------


def read_head(data: bytes) -> RequestHead | None:
    """What the gateway reads; None when it refuses. The head is cut where ``client.py`` cuts it."""
    end = data.find(b"\r\n\r\n")
    if end < 0 or data[:2] == b"\r\n":
        return None
    try:
        return RequestReader().read(data[: end + 4])
    except BadRequest:
        return None


@target
def request_head(data: bytes) -> None:
    """The gateway and h11 never read one head in two ways; what goes on to the upstream is one clean head."""
    reader, end = RequestReader(), data.find(b"\r\n\r\n")
    head = read_head(data)
    if head is None:
        return
    for _ in range(2):  # the second time from memory
        again = reader.read(data[: end + 4])
        assert (again.method, again.url, again.host, again.fields.block) == (
            head.method, head.url, head.host, head.fields.block)  # fmt: skip
    assert not (head.fields.chunked and head.fields.length is not None), "two framings"
    for line in head.fields.lines:
        assert b"\r" not in line and b"\n" not in line and b"\0" not in line, line
    with contextlib.suppress(routes.InvalidAddress):
        where = routes.decide(head)
        assert where.path[:1] in (b"/", b"*") and b" " not in where.path
    _agrees_with_h11(data[: end + 4], head)


def _agrees_with_h11(data: bytes, head: RequestHead) -> None:
    peer = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    peer.receive_data(data)
    try:
        event = peer.next_event()
    except h11.RemoteProtocolError:
        return  # each may be stricter than the other
    if not isinstance(event, h11.Request):
        return
    fields: dict[bytes, list[bytes]] = {}
    for name, value in event.headers:
        fields.setdefault(name, []).append(value)
    assert event.method == head.method
    assert (b"transfer-encoding" in fields) == head.fields.chunked, fields
    if not head.fields.chunked:
        length = {int(value) for value in fields.get(b"content-length", [])}
        assert length == (set() if head.fields.length is None else {head.fields.length})
    if event.target.startswith(b"/"):
        assert (event.target, fields.get(b"host")) == (head.url, None if head.host is None else [head.host])


@target
def response_head(data: bytes) -> None:
    """An answer of a sandbox's server is refused or goes on as one clean head with one framing."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return
    reader = ResponseReader()
    try:
        head = reader.read(data[: end + 4])
    except BadResponse:
        return
    again = reader.read(data[: end + 4])
    for method in (b"GET", b"HEAD"):
        for connection in (None, b"close"):
            sent = head.compose(connection, decoded=False)
            assert sent == again.compose(connection, decoded=False)
            assert sent.endswith(b"\r\n\r\n") and sent.count(b"\r\n\r\n") == 1
            assert not (b"\r\nTransfer-Encoding:" in sent and b"\r\nContent-Length:" in sent)
            assert sent.replace(b"\r\n", b"").count(b"\n") == 0, sent
        head.body(method, decode=False)


@target
def chunked_body(data: bytes) -> None:
    """However a chunked body is cut, the same bytes belong to it; and h11 reads the same content."""
    whole, parts = _chunks([data]), _chunks(pieces(data, cuts(data)))
    assert whole == parts
    if whole is None or not whole[2]:
        return
    peer = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    peer.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    peer.next_event()
    content = b""
    try:
        while not isinstance(event := peer.next_event(), h11.EndOfMessage):
            if not isinstance(event, h11.Data):
                return
            content += bytes(event.data)
    except h11.RemoteProtocolError:
        return
    assert content == whole[0]
    assert peer.trailing_data[0] == data[whole[1] :]


def _chunks(parts: list[bytes]) -> tuple[bytes, int, bool] | None:
    """Content, bytes used, finished; None when the body is refused."""
    body, content, used = ChunkedBody(decode=True), b"", 0
    assert body.payload is not None
    try:
        for part in parts:
            if body.done:
                break
            used += body.feed(part)
            content += b"".join(body.payload)
            body.payload.clear()
    except BodyError:
        return None
    return content, used, body.done


@target
def reserved_path(data: bytes) -> None:
    """No spelling of a path that the runtime would take for /init and its like passes the gateway."""
    url = b"/" + data.split(b" ", 1)[0]
    seen = unquote_to_bytes(url.partition(b"?")[0])
    if seen in routes.RESERVED or posixpath.normpath(seen) in routes.RESERVED:
        assert routes.reserved(url)


@target
def multipart(data: bytes) -> None:
    """However a multipart body is cut, it holds the same parts; the first line of ``data`` is its content type."""
    kind, _, body = data.partition(b"\n")
    try:
        boundary = boundary_of(kind.decode("latin-1"))
    except HttpError:
        return
    whole, parts = _parts(boundary, [body]), _parts(boundary, pieces(body, cuts(body)))
    assert whole == parts


def _parts(boundary: bytes, chunks: list[bytes]) -> list[tuple[PartStart, bytes, bool]] | None:
    parser, found = MultipartParser(boundary), list[tuple[PartStart, bytes, bool]]()
    try:
        for chunk in chunks:
            for event in parser.feed(chunk):
                if isinstance(event, PartStart):
                    found.append((event, b"", False))
                else:
                    start, content, _ = found.pop()
                    found.append(
                        (start, content, True) if isinstance(event, PartEnd) else (start, content + event, False)
                    )
        parser.close()
    except HttpError:
        return None
    assert all(complete for _, _, complete in found)
    return found


@target
def ranges(data: bytes) -> None:
    """``Range``, dates and ``Accept-Encoding`` of any text name bytes inside the file, or none."""
    lines = data.decode("latin-1").split("\n")
    names = ("range", "if-range", "if-modified-since", "if-unmodified-since")
    headers = dict(zip(names, lines, strict=False))
    conditions.precondition(headers, 1_700_000_000.5)
    conditions.encoding(lines[-1])
    for size in (0, 1, 1000):
        with contextlib.suppress(conditions.Unsatisfiable):
            found = conditions.byte_range(headers, size, 1_700_000_000.5)
            if found is not None:
                first, length = found
                assert 0 <= first < size and 0 < length <= size - first


# Connect --------------------------------------------------------------------------------------------------------------


@target
def envelopes(data: bytes) -> None:
    """However a stream is cut, it holds the same messages."""
    assert _messages([data]) == _messages(pieces(data, cuts(data)))


def _messages(parts: list[bytes]) -> tuple[list[bytes], str]:
    """Messages, and the code of the error that ended them."""

    async def body() -> AsyncIterator[bytes]:
        for part in parts:
            yield part

    async def read() -> tuple[list[bytes], str]:
        found: list[bytes] = []
        try:
            async for message in envelope.frames(body(), LIMIT, "gzip"):
                found.append(message)  # noqa: PERF401 (what came before an error counts)
        except ConnectError as error:
            return found, error.code.wire
        return found, ""

    coroutine = read()  # nothing in it waits: one step runs it to its end
    try:
        coroutine.send(None)
    except StopIteration as stop:
        result: tuple[list[bytes], str] = stop.value
        return result
    raise AssertionError("it waited")


@target
def proto(data: bytes) -> None:
    """What the binary codec accepts survives both codecs; the first byte chooses the message."""
    _codec(data, wire.decode)


@target
def json_form(data: bytes) -> None:
    """What the JSON codec accepts survives both codecs; the first byte chooses the message."""
    _codec(data, jsonform.decode)


def _codec(data: bytes, decode: Callable[[bytes, type[Message]], Message]) -> None:
    message = MESSAGES[data[0] % len(MESSAGES)] if data else process.StartRequest
    try:
        value = decode(data[1:], message)
    except ConnectError as error:
        assert len(str(error)) < 1000, "an error as long as the request"
        return
    wanted = wire.encode(value)  # an explicit zero and an absent one are the same message
    assert wire.encode(jsonform.decode(jsonform.encode(value), message)) == wanted
    assert wire.encode(wire.decode(wanted, message)) == wanted


# Names ----------------------------------------------------------------------------------------------------------------

USER = User("user", 1000, 1000, "/home/user", "/bin/bash", ())


@target
def path(data: bytes) -> None:
    """A path is refused or absolute; a relative one is clean; ``~`` only ever means the home."""
    text = data.decode("utf-8", "surrogateescape")
    try:
        found = paths.resolve(text, USER, "/work")
    except paths.BadPath:
        return
    assert found.startswith("/") and "\0" not in found
    if text.startswith("/"):
        assert found == text
    elif text:
        assert found == posixpath.normpath(found)


@target
def list_query(data: bytes) -> None:
    """The query of a list is read or refused with 400; a filter names only text."""
    text = data.decode("utf-8", "replace")
    names = ("metadata", "state", "order", "startedAfter", "template", "limit", "nextToken")
    arguments = dict(zip(names, text.split("\n"), strict=False))
    states = [arguments.pop("state")] if "state" in arguments else []
    try:
        query = listing.parse({name: value for name, value in arguments.items() if value}, states)
    except Fault as fault:
        assert fault.status == 400
        return
    assert 1 <= query.limit <= 100
    assert all(key for key in query.metadata)


@target
def dns_question(data: bytes) -> None:
    """A datagram to the box's resolver is one question or refused; the answer's question is the one asked."""
    try:
        _, _, end = resolver.question(data)
    except resolver.FormatError:
        return
    assert 12 < end <= len(data)
    sent = resolver.reply(data, end, resolver.NOERROR, [])
    assert sent[:2] == data[:2] and sent[12:] == data[12:end]


@target
def dns_answer(data: bytes) -> None:
    """A name server's answer is read or refused; it gives addresses only with a time to live."""
    try:
        found = answers.answer(data, 7, "a.test")
    except answers.FormatError:
        return
    assert not found.addresses or 0 <= found.ttl < 1 << 32


@target
def client_hello(data: bytes) -> None:
    """The server name does not depend on how the hello is cut."""
    assert _asked(heads.ClientHello(), [data]) == _asked(heads.ClientHello(), pieces(data, cuts(data)))


@target
def egress_requests(data: bytes) -> None:
    """The name that requests ask for does not depend on how they are cut, and is the one that h11 reads first."""
    name = _asked(heads.Requests(), [data])
    assert name == _asked(heads.Requests(), pieces(data, cuts(data)))
    if name:
        other = h11.Connection(h11.SERVER)
        other.receive_data(data)
        with contextlib.suppress(h11.RemoteProtocolError):
            event = other.next_event()
            if isinstance(event, h11.Request):
                hosts = [value.decode().strip().lower() for field, value in event.headers if field == b"host"]
                assert [heads.host_name(one.removesuffix(".")) for one in hosts] == [name]


def _asked(reader: heads.Inspector, parts: list[bytes]) -> str | None:
    """The name; None where there is none yet, and empty where it is refused."""
    name = None
    try:
        for part in parts:
            name = reader.feed(part)
    except heads.Refused:
        return ""
    return name


@target
def ruled_request(data: bytes) -> None:
    """A request that gets a header by a rule is one request to that host, with the framing and header h11 reads."""
    end = data.find(rewriting.END)
    if end < 0:
        return
    rule = {"X-Key": "secret"}
    try:
        sent = rewriting.rewrite(data[: end + 4], "a.test", rule)
    except heads.Refused:
        return
    assert sent.head.endswith(rewriting.END) and sent.head.count(rewriting.END) == 1
    assert sent.head.replace(b"\r\n", b"").count(b"\n") == sent.head.replace(b"\r\n", b"").count(b"\r") == 0
    assert rewriting.rewrite(sent.head, "a.test", rule) == sent
    peer = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    peer.receive_data(sent.head)
    try:
        event = peer.next_event()
    except h11.RemoteProtocolError:
        return  # each may be stricter than the other
    if isinstance(event, h11.Request):
        assert [value for name, value in event.headers if name == b"x-key"] == [b"secret"]
        (host,) = (value for name, value in event.headers if name == b"host")
        assert heads.host_name(host.decode().lower()) == "a.test"
        coded = any(name == b"transfer-encoding" for name, _ in event.headers)
        assert coded == (sent.length is None)
        lengths = {int(value) for name, value in event.headers if name == b"content-length"}
        assert coded or (lengths or {0}) == {sent.length}


@target
def ruled_chunks(data: bytes) -> None:
    """The end of a chunked body does not depend on how it is cut, and is where h11 finds it."""
    whole = _followed([data])
    assert whole == _followed(pieces(data, cuts(data)))
    if whole is None or not whole[1]:
        return
    peer = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
    peer.receive_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + data)
    try:
        while not isinstance(event := peer.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                return
    except h11.RemoteProtocolError:
        return
    assert peer.trailing_data[0] == data[whole[0] :]


def _followed(parts: list[bytes]) -> tuple[int, bool] | None:
    """Bytes used, finished; None when the body is refused."""
    chunks, used = rewriting.Chunks(), 0
    try:
        for part in parts:
            used += chunks.feed(part)
    except heads.Refused:
        return None
    return used, chunks.done
