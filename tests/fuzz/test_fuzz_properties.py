"""Properties of the exposed parsers, with Hypothesis: what is written is read back, whatever the content or the cuts.

The targets of the fuzzer (``targets.py``) hold for arbitrary bytes, also for bytes near a kept input; the other tests
build valid input and compare with what was meant.
"""

from __future__ import annotations

import posixpath
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import h11
import msgspec
import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st
from targets import MESSAGES, TARGETS, USER, pieces, read_head

from appliance.gateway.bodies import BodyError, ChunkedBody
from appliance.gateway.target import ControlTarget, InvalidAddress, SandboxTarget, decide, reserved
from appliance.manager.listing import parse_metadata
from appliance.runtime import paths
from appliance.runtime.connect import envelope, jsonform, wire
from appliance.runtime.connect.message import Field, Kind, Message, wire_of
from appliance.runtime.files.multipart import MultipartParser, PartEnd, PartStart

CORPUS = Path(__file__).parent / "corpus"
quick = settings(max_examples=100, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
"""A deadline would measure the machine's load; findings belong into the corpus, not into a private database."""
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@st.composite
def cuts(draw: st.DrawFn, size: int) -> list[int]:
    """Sorted places to cut ``size`` bytes at."""
    return sorted(draw(st.lists(st.integers(0, size), max_size=6)))


@st.composite
def near(draw: st.DrawFn, name: str) -> bytes:
    """A kept input of a target, with a few bytes replaced, removed or put in; or any bytes at all."""
    kept = sorted((CORPUS / name).iterdir())
    data = draw(st.one_of(st.binary(max_size=200), st.sampled_from(kept).map(Path.read_bytes)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        gone = draw(st.integers(0, 3))
        data = data[:at] + draw(st.binary(max_size=3)) + data[at + gone :]
    return data


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_the_promises_hold_for_arbitrary_bytes(name: str) -> None:
    """No bytes make a parser raise anything but its own refusal or break what its target promises."""

    @quick
    @given(near(name))
    def check(data: bytes) -> None:
        TARGETS[name](data)

    check()


# Both codecs ----------------------------------------------------------------------------------------------------------


def values(field: Field) -> st.SearchStrategy[Any]:
    """Values of one field, as they are in memory."""
    if field.kind is Kind.MESSAGE:
        assert field.message is not None
        single: st.SearchStrategy[Any] = messages(field.message)
    elif field.kind is Kind.ENUM:
        assert field.enum is not None
        single = st.sampled_from(sorted(field.enum))
    else:
        single = {
            Kind.STRING: TEXT, Kind.BYTES: st.binary(max_size=40), Kind.BOOL: st.booleans(),
            Kind.UINT32: st.integers(0, 2**32 - 1), Kind.SINT32: st.integers(-(2**31), 2**31 - 1),
            Kind.INT64: st.integers(-(2**63), 2**63 - 1).map(str),
            Kind.STRING_MAP: st.dictionaries(TEXT, TEXT, max_size=3),
            Kind.TIMESTAMP: st.datetimes().map(lambda when: when.replace(microsecond=0).isoformat() + ".000000001Z"),
        }[field.kind]  # fmt: skip
    return st.lists(single, max_size=3) if field.repeated else single


def messages(message: type[Message]) -> st.SearchStrategy[Message]:
    """Messages of a class, fields absent or present."""
    optional = {field.name: values(field) for field in wire_of(message).ordered}
    return st.fixed_dictionaries({}, optional=optional).map(lambda given: message(**given))


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.__name__)
def test_both_codecs_bring_back_the_same_message(message: type[Message]) -> None:
    """Binary and JSON, each from the other's reading: the message is the same, absent and empty told apart."""

    @quick
    @given(messages(message))
    def check(value: Message) -> None:
        # An INT64 of "0" and an absent one are the same message in proto3: binary leaves both out.
        once = wire.decode(wire.encode(value), message)
        wanted = msgspec.to_builtins(once)
        assert msgspec.to_builtins(jsonform.decode(jsonform.encode(once), message)) == wanted
        assert wire.encode(jsonform.decode(jsonform.encode(value), message)) == wire.encode(value)

    check()


@quick
@given(st.lists(st.tuples(st.binary(max_size=50), st.booleans()), max_size=5), st.data())
def test_envelopes_come_out_as_they_went_in(sent: list[tuple[bytes, bool]], data: st.DataObject) -> None:
    """Plain and compressed frames, cut anywhere: the same messages in the same order."""
    import gzip

    body = b""
    for message, packed in sent:
        frame = envelope.frame(gzip.compress(message) if packed else message)
        body += bytes((envelope.COMPRESSED,)) + frame[1:] if packed else frame

    async def chunks() -> Any:
        for piece in pieces(body, data.draw(cuts(len(body)))):
            yield piece

    async def read() -> list[bytes]:
        return [message async for message in envelope.frames(chunks(), 1000, "gzip")]

    with pytest.raises(StopIteration) as stop:
        read().send(None)
    assert stop.value.value == [message for message, _ in sent]


# Multipart, paths, metadata ------------------------------------------------------------------------------------------


CONTENT = st.one_of(st.binary(max_size=20), st.sampled_from([b"\r\n--", b"\r"]))


@quick
@given(
    st.text(string.ascii_letters + string.digits + "'()+_,-./:=?", min_size=1, max_size=70),
    st.lists(st.tuples(TEXT, st.lists(CONTENT)), max_size=3),
    st.data(),
)
def test_multipart_parts_come_out_as_they_went_in(
    boundary: str, files: list[tuple[str, list[bytes]]], data: st.DataObject
) -> None:
    """Any names and contents, half boundaries among them, in any cuts."""
    raw = boundary.encode()
    contents = [(name, b"".join(content)) for name, content in files]
    assume(all(b"\r\n--" + raw not in b"\r\n" + content + b"\r\n" for _, content in contents))
    body = b"".join(
        b"--%b\r\nContent-Disposition: form-data; name=\"file\"; filename*=utf-8''%b\r\n\r\n%b\r\n"
        % (raw, quote(name).encode(), content)
        for name, content in contents
    )
    body += b"--%b--\r\n" % raw
    parser, found = MultipartParser(raw), []
    for piece in pieces(body, data.draw(cuts(len(body)))):
        for event in parser.feed(piece):
            if isinstance(event, PartStart):
                found.append((event.filename, b""))
            elif not isinstance(event, PartEnd):
                found[-1] = (found[-1][0], found[-1][1] + event)
    parser.close()
    assert found == contents


@quick
@given(
    st.lists(st.sampled_from(["a", "b c", "..", ".", "", "~", "ü"]), max_size=6), st.sampled_from(["", "/", "~/", "~"])
)
def test_paths_mean_what_the_contract_says(parts: list[str], start: str) -> None:
    """Absolute ones verbatim, ~ and relative ones below the home and clean, nothing the default directory."""
    text = start + "/".join(parts)
    try:
        found = paths.resolve(text, USER, "/work")
    except paths.BadPath:
        assert text.startswith("~") and text[:2] not in ("~", "~/")
        return
    if not text:
        assert found == "/work"
    elif text.startswith("/"):
        assert found == text
    elif text.startswith("~"):
        assert found == posixpath.normpath(USER.home + text[1:])
    else:
        assert found == posixpath.normpath(f"{USER.home}/{text}")


@quick
@given(st.dictionaries(TEXT.filter(bool), TEXT, min_size=1, max_size=3))
@example({"a=b&c": "%41+ /"})
@example({"%": "%25"})
def test_metadata_filters_survive_the_encodings_of_the_sdks(wanted: dict[str, str]) -> None:
    """Any text, encoded as the Python and JavaScript SDKs do it (keys and values, then the pairs), comes back.

    Pairs that were encoded only once come back too, unless they hold percent signs themselves: nothing tells those
    from pairs encoded twice.
    """
    assert parse_metadata(urlencode({quote(key): quote(value) for key, value in wanted.items()})) == wanted
    script = {quote(key, safe="~()*!'"): quote(value, safe="~()*!'") for key, value in wanted.items()}
    twice = "&".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in script.items())
    assert parse_metadata(twice) == wanted
    if "%" not in "".join((*wanted, *wanted.values())):
        assert parse_metadata(urlencode(wanted)) == wanted


# The gateway ---------------------------------------------------------------------------------------------------------

TOKEN = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=10)
VALUE = st.text(string.ascii_letters + string.digits + " !\"#%&'*,;=()<>{}", max_size=20).map(str.strip)
FIELDS = st.lists(st.tuples(TOKEN.map("X-".__add__), VALUE), max_size=6)


@quick
@given(st.sampled_from(["GET", "POST", "PUT", "DELETE"]), TOKEN, FIELDS, st.integers(0, 10**6))
def test_a_clean_head_is_read_as_h11_reads_it(
    method: str, path: str, fields: list[tuple[str, str]], length: int
) -> None:
    """Ordinary requests: method, target, host, framing and every field are what another parser sees."""
    lines = [f"{method} /{path} HTTP/1.1", "Host: a.test", *(f"{name}: {value}" for name, value in fields)]
    data = "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode()
    head = read_head(data)
    assert head is not None
    peer = h11.Connection(h11.SERVER)
    peer.receive_data(data)
    event = peer.next_event()
    assert isinstance(event, h11.Request)
    assert (head.method, head.url, head.host, head.fields.length) == (event.method, event.target, b"a.test", length)
    sent = {tuple(line.split(b": ", 1)) for line in head.fields.lines}
    assert {(name, value) for name, value in event.headers.raw_items() if name != b"Host"} <= sent


START = b"POST /x HTTP/1.1\r\nHost: a.test\r\n"
SMUGGLING = {
    "length and coding": b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n",
    "coding and length": b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n",
    "two lengths": b"Content-Length: 3\r\nContent-Length: 4\r\n",
    "the same length twice": b"Content-Length: 3\r\nContent-Length: 3\r\n",
    "a list of lengths": b"Content-Length: 3, 3\r\n",
    "a sign": b"Content-Length: +3\r\n",
    "hexadecimal": b"Content-Length: 0x3\r\n",
    "a negative length": b"Content-Length: -1\r\n",
    "an empty length": b"Content-Length: \r\n",
    "a length beyond 64 bits": b"Content-Length: 99999999999999999999999\r\n",
    "two codings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "chunked not last": b"Transfer-Encoding: chunked, identity\r\n",
    "another coding": b"Transfer-Encoding: xchunked\r\n",
    "gzip, chunked": b"Transfer-Encoding: gzip, chunked\r\n",
    "a coding after a tab in the name": b"Transfer-Encoding\t: chunked\r\n",
    "a blank before the colon": b"Content-Length : 3\r\n",
    "a folded line": b"X: a\r\n b\r\nContent-Length: 3\r\n",
    "a folded coding": b"Transfer-Encoding:\r\n chunked\r\n",
    "a name with a blank": b"Content Length: 3\r\n",
    "a line without a colon": b"Content-Length\r\n",
    "a bare line feed": b"X: a\nContent-Length: 3\r\n",
    "a bare carriage return": b"X: a\rContent-Length: 3\r\n",
    "a zero byte": b"X: a\0b\r\n",
    "two hosts": b"Host: b.test\r\n",
    "two sandbox ids": b"E2b-Sandbox-Id: a\r\nE2b-Sandbox-Id: b\r\n",
    "two sandbox ports": b"E2b-Sandbox-Port: 1\r\nE2b-Sandbox-Port: 2\r\n",
}  # fmt: skip


@pytest.mark.parametrize("fields", SMUGGLING.values(), ids=SMUGGLING)
def test_heads_that_two_servers_read_in_two_ways_are_refused(fields: bytes) -> None:
    """Every classic of request smuggling ends at the gateway."""
    assert read_head(START + fields + b"\r\n") is None


@quick
@given(st.sampled_from(sorted(SMUGGLING)), st.lists(st.tuples(TOKEN.map("X-".__add__), VALUE), max_size=4), st.data())
def test_no_other_field_makes_a_doubtful_head_acceptable(
    name: str, fields: list[tuple[str, str]], data: st.DataObject
) -> None:
    """The same with harmless fields before and after it."""
    at = data.draw(st.integers(0, len(fields)))
    lines = [f"{key}: {value}\r\n".encode() for key, value in fields]
    assert read_head(START + b"".join(lines[:at]) + SMUGGLING[name] + b"".join(lines[at:]) + b"\r\n") is None


@quick
@given(st.integers(1, 65535), st.text(string.ascii_lowercase + string.digits, min_size=1, max_size=30), st.data())
def test_hosts_headers_and_paths_name_the_same_sandbox(port: int, own: str, data: st.DataObject) -> None:
    """PORT-ID in the host, the two headers and the path route lead to one target; the path route loses its prefix."""
    assume(not own.isdigit() and own != "api")
    suffix = data.draw(st.sampled_from(["", "-client"]))
    by_host = target(f"GET /p?q HTTP/1.1\r\nHost: {port}-{own}{suffix}.sbx.test:8443\r\n")
    by_fields = target(f"GET /p?q HTTP/1.1\r\nHost: a.test\r\nE2b-Sandbox-Id: {own}\r\nE2b-Sandbox-Port: {port}\r\n")
    by_path = target(f"GET /kruise/{own}/{port}/p?q HTTP/1.1\r\nHost: a.test\r\n")
    assert by_host == by_fields == SandboxTarget(own, port, b"/p?q")
    assert by_path == SandboxTarget(own, port, b"/p?q", f"/kruise/{own}/{port}".encode())


@quick
@given(st.text(string.ascii_letters + string.digits + "-._~%[]:", max_size=30))
def test_any_host_is_a_sandbox_the_control_api_or_invalid(host: str) -> None:
    """Nothing else comes of a host, and only PORT-ID becomes a sandbox."""
    try:
        found = target(f"GET / HTTP/1.1\r\nHost: {host}\r\n")
    except InvalidAddress as error:
        assert str(error) in ("Invalid host", "Invalid sandbox ID", "Invalid sandbox port")
        return
    if isinstance(found, SandboxTarget):
        assert host.lower().startswith(f"{found.port}-{found.sandbox_id}".lower()) or host.startswith("0")
    else:
        assert found == ControlTarget(b"/")


def target(lines: str) -> ControlTarget | SandboxTarget:
    """Where a request goes."""
    head = read_head(f"{lines}\r\n".encode())
    assert head is not None
    return decide(head)


@quick
@given(st.sampled_from(["/init", "/freeze", "/upgrade"]), st.data())
def test_reserved_paths_are_known_in_every_spelling(path: str, data: st.DataObject) -> None:
    """Percent-encoded letters, doubled slashes, dots and queries do not hide the control plane's own paths."""
    encode: Callable[[str], str] = lambda one: f"%{ord(one):02X}" if data.draw(st.booleans()) else one  # noqa: E731
    spelled = "/" * data.draw(st.integers(1, 2)) + "".join(encode(one) for one in path[1:])
    spelled = (
        data.draw(st.sampled_from(["", "/.", "/x/.."])) + spelled + data.draw(st.sampled_from(["", "/", "?a", "/."]))
    )
    assert reserved(spelled.encode()), spelled


@quick
@given(st.lists(st.binary(min_size=1, max_size=30), max_size=4), st.binary(max_size=10), st.data())
def test_a_chunked_body_ends_where_it_ends(chunks: list[bytes], after: bytes, data: st.DataObject) -> None:
    """In any cuts the content is the chunks' and not a byte of what follows belongs to the body."""
    body = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    parser, content, used = ChunkedBody(decode=True), b"", 0
    assert parser.payload is not None
    for piece in pieces(body + after, data.draw(cuts(len(body + after)))):
        if parser.done:
            break
        used += parser.feed(piece)
        content += b"".join(parser.payload)
        parser.payload.clear()
    assert parser.done and (content, used) == (b"".join(chunks), len(body))


TWO_WAYS = [
    b"0x3\r\nabc\r\n0\r\n\r\n", b"+3\r\nabc\r\n", b" 3\r\nabc\r\n", b"3\nabc\n", b"3\r\nabcd\r\n", b"-1\r\n",
    b"\r\n", b"3;\0\r\nabc\r\n", b"0\r\nno colon\r\n\r\n", b"fffffffffffffffff\r\n",
]  # fmt: skip


@pytest.mark.parametrize("body", TWO_WAYS)
def test_chunks_that_two_servers_read_in_two_ways_are_refused(body: bytes) -> None:
    """Signs, prefixes, bare line feeds, control characters and overlong sizes."""
    with pytest.raises(BodyError):
        ChunkedBody().feed(body)
