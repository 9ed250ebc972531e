"""Both codecs and the framing, against an independent protobuf implementation and by hand."""

from __future__ import annotations

import gzip

import msgspec
import pytest

from appliance.runtime.connect import envelope, jsonform, wire
from appliance.runtime.connect.errors import ConnectError
from appliance.runtime.filesystem import messages as fs
from appliance.runtime.process import messages as m

ENTRY = fs.EntryInfo(
    name="n", type="FILE_TYPE_DIRECTORY", path="/n", size="-5", mode=0o755, permissions="drwxr-xr-x",
    owner="u", group="g",
    modified_time="2023-11-14T22:13:20.000000007Z", symlink_target="", metadata={"k": "v"}, is_symlink=True,
)  # fmt: skip
SAMPLES = [
    m.StartRequest(
        process=m.ProcessConfig(cmd="é", args=["", "b"], envs={"A": "1", "B": ""}, cwd=""),
        pty=m.Pty(size=m.PtySize(cols=300, rows=0)), tag="", stdin=False,
    ),
    m.EventResponse(event=m.ProcessEvent(data=m.DataEvent(stdout=b""))),
    m.EventResponse(event=m.ProcessEvent(data=m.DataEvent(pty=bytes(range(256)) * 2))),
    m.EventResponse(event=m.ProcessEvent(end=m.EndEvent(exit_code=-1, status="signal: killed", error=""))),
    m.EventResponse(event=m.ProcessEvent(end=m.EndEvent(exit_code=300, exited=True))),
    m.EventResponse(event=m.ProcessEvent(keepalive=m.KeepAlive())),
    m.SendSignalRequest(process=m.ProcessSelector(pid=2**32 - 1), signal="SIGNAL_SIGTERM"),
    m.ListResponse(processes=[m.ProcessInfo(config=m.ProcessConfig(cmd="x"), pid=1, tag="t"), m.ProcessInfo(pid=2)]),
    fs.EntryResponse(entry=ENTRY),
    fs.WatchRequest(path="/p", recursive=True, include_entry=True, allow_network_mounts=True),
    fs.WatcherEvents(events=[fs.FilesystemEvent(name="n", type="EVENT_TYPE_CHMOD", entry=fs.EntryInfo(name="e"))]),
]  # fmt: skip


@pytest.mark.parametrize("message", SAMPLES, ids=lambda message: type(message).__name__)
@pytest.mark.parametrize("codec", [wire, jsonform], ids=["proto", "json"])
def test_round_trip(codec, message):
    """Every kind of field survives both codecs, presence of empty optionals included."""
    back = codec.decode(codec.encode(message), type(message))
    assert msgspec.to_builtins(back) == msgspec.to_builtins(message)


@pytest.mark.parametrize(
    ("ours", "module", "name"),
    [
        (SAMPLES[0], "process.process_pb", "StartRequest"),
        (SAMPLES[2], "process.process_pb", "StartResponse"),
        (SAMPLES[3], "process.process_pb", "StartResponse"),
        (SAMPLES[6], "process.process_pb", "SendSignalRequest"),
        (SAMPLES[7], "process.process_pb", "ListResponse"),
        (SAMPLES[8], "filesystem.filesystem_pb", "StatResponse"),
        (SAMPLES[9], "filesystem.filesystem_pb", "WatchDirRequest"),
        (SAMPLES[10], "filesystem.filesystem_pb", "GetWatcherEventsResponse"),
    ],
)
def test_agrees_with_the_sdk(ours, module, name):
    """The SDK's generated messages read our binary form, and we read theirs, without a difference."""
    import importlib

    theirs = getattr(importlib.import_module(f"e2b.envd.{module}"), name)
    parsed = theirs.from_binary(wire.encode(ours)) if hasattr(theirs, "from_binary") else pytest.skip("no from_binary")
    again = wire.decode(bytes(parsed.to_binary()), type(ours))
    assert msgspec.to_builtins(again) == msgspec.to_builtins(ours)


def test_json_freedoms():
    """snake_case, enum numbers, numbers as text, URL-safe unpadded base64, null and unknown fields are accepted."""
    body = b'{"path":"/p","include_entry":true,"allowNetworkMounts":true,"recursive":null,"new":{"x":1}}'
    assert jsonform.decode(body, fs.WatchRequest) == fs.WatchRequest(
        path="/p", include_entry=True, allow_network_mounts=True
    )
    signal = jsonform.decode(b'{"signal":9,"process":{"pid":"7"}}', m.SendSignalRequest)
    assert (signal.signal, signal.process.pid) == ("SIGNAL_SIGKILL", 7)
    assert jsonform.decode(b'{"stdin":"-_8"}', m.ProcessInput).stdin == b"\xfb\xff"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"[]", "object"),
        (b"{", "JSON"),
        (b"\xff", "JSON"),
        (b'{"process":{"args":"x"}}', "process.args"),
        (b'{"process":{"envs":{"A":1}}}', "process.envs.A"),
        (b'{"pty":{"size":{"cols":4294967296}}}', "pty.size.cols"),
        (b'{"stdin":"yes"}', "stdin"),
    ],
)
def test_json_errors_name_the_field(body, named):
    """A malformed field is invalid_argument with its path."""
    with pytest.raises(ConnectError) as caught:
        jsonform.decode(body, m.StartRequest)
    assert named in caught.value.message


@pytest.mark.parametrize("data", [b"\x0a", b"\x0a\xff", b"\x08\x01", b"\x0f", b"\xff" * 11, b"\x1a\x01\xff"])
def test_malformed_binary(data):
    """Cut-off, mistyped and overlong binary fields are invalid_argument, never a crash."""
    with pytest.raises(ConnectError):
        wire.decode(data, m.StartRequest)


def test_unknown_binary_fields_are_skipped():
    """Fields of every wire type that we do not know are skipped."""
    data = b"\xf8\x07\x01" + b"\xf9\x07" + b"8" * 8 + b"\xfa\x07\x02ab" + b"\xfd\x07" + b"4" * 4 + b"\x1a\x01t"
    assert wire.decode(data, m.StartRequest).tag == "t"


async def parts(*pieces):
    for piece in pieces:
        yield piece


async def test_frames_in_any_pieces():
    """Frames are found however the bytes are cut; gzip frames are opened when announced."""
    packed = gzip.compress(b"second")
    data = envelope.frame(b"first") + b"\1" + len(packed).to_bytes(4, "big") + packed + envelope.frame(b"")
    pieces = [data[at : at + 1] for at in range(len(data))]
    assert [f async for f in envelope.frames(parts(*pieces), 100, "gzip")] == [b"first", b"second", b""]


@pytest.mark.parametrize("data", [b"\0\0\0\0\x05abc", b"\0\0\1\0\0", b"\1\0\0\0\x01x"])
async def test_bad_frames(data):
    """A frame that is cut off, too large or compressed without announcement is an error."""
    with pytest.raises(ConnectError):
        assert [f async for f in envelope.frames(parts(data), 100, None)] == []
