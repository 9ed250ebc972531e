"""``/files`` over HTTP."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from appliance.runtime.auth import sign

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="giving files to another user needs root: run as root")


async def test_multipart_upload(envd):
    """Several parts named file become files at their full names; other parts are ignored; the answer lists them."""
    parts = [
        ("file", ("a/b/one.txt", b"1")),
        ("ignored", ("x", b"-")),
        ("file", (str(envd.home / "two"), b"\r\n--binary\0")),
        ("file", ("empty", b"")),
    ]
    answer = await envd.http.post("/files", files=parts)
    assert answer.status_code == 200, answer.text
    assert answer.json() == [
        {"name": os.path.basename(name), "path": str(envd.home / name), "type": "file"}
        for name in ("a/b/one.txt", "two", "empty")
    ]
    assert (envd.home / "a/b/one.txt").read_bytes() == b"1"
    assert (envd.home / "two").read_bytes() == b"\r\n--binary\0"
    assert (envd.home / "empty").read_bytes() == b""
    assert not (envd.home / "x").exists()


@needs_root
async def test_ownership_and_modes(envd):
    """New files are 0644 and the user's, as are new parents at 0755; an existing file keeps its mode."""
    old = envd.home / "old"
    old.write_text("a longer content than the new one")
    old.chmod(0o600)
    await envd.http.post("/files", files=[("file", ("p/new", b"n")), ("file", ("old", b"o"))])
    new = (envd.home / "p/new").stat()
    assert (new.st_uid, new.st_gid, new.st_mode & 0o7777) == (envd.uid, envd.gid, 0o644)
    assert ((envd.home / "p").stat().st_uid, (envd.home / "p").stat().st_mode & 0o777) == (envd.uid, 0o755)
    assert (old.read_text(), old.stat().st_mode & 0o777, old.stat().st_uid) == ("o", 0o600, envd.uid)


async def test_octet_stream_and_gzip_upload(envd):
    """An octet-stream body is the file, decoded when it is gzip; several gzip members are one file."""
    headers = {"content-type": "application/octet-stream"}
    await envd.http.post("/files?path=raw", content=b"raw bytes", headers=headers)
    packed = gzip.compress(b"one ") + gzip.compress(b"two")
    answer = await envd.http.post("/files?path=zip", content=packed, headers={**headers, "content-encoding": "gzip"})
    assert answer.status_code == 200, answer.text
    assert (envd.home / "raw").read_bytes() == b"raw bytes"
    assert (envd.home / "zip").read_bytes() == b"one two"
    weighed = {**headers, "content-encoding": "GZIP;q=1.0"}
    assert (await envd.http.post("/files?path=weighed", content=packed, headers=weighed)).status_code == 200
    assert (envd.home / "weighed").read_bytes() == b"one two"


@pytest.mark.parametrize(
    ("query", "headers", "body", "named"),
    [
        ("", {"content-type": "application/octet-stream"}, b"x", "path"),
        ("?path=f", {"content-type": "text/plain"}, b"x", "Content-Type"),
        ("?path=f", {"content-type": "multipart/form-data"}, b"x", "boundary"),
        ("?path=f", {"content-type": "multipart/form-data; boundary=b"}, b"--b\r\n", "last boundary"),
        ("?path=f", {"content-type": "application/octet-stream", "content-encoding": "br"}, b"x", "Content-Encoding"),
        ("?path=f", {"content-type": "application/octet-stream", "content-encoding": "gzip"}, b"x", "gzip"),
        ("?path=.", {"content-type": "application/octet-stream"}, b"x", "directory"),
        ("?path=f", {"content-type": "application/octet-stream", "x-metadata-k": "v" * 5000}, b"x", "metadata"),
    ],
)
async def test_bad_uploads(envd, query, headers, body, named):
    """Every malformed upload is 400 in JSON and says what was wrong."""
    answer = await envd.http.post("/files" + query, content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (400, 400)
    assert named in answer.json()["message"]


async def test_same_target_twice(envd):
    """Two parts for one path are refused."""
    answer = await envd.http.post("/files", files=[("file", ("a", b"1")), ("file", ("./a", b"2"))])
    assert answer.status_code == 400


async def test_large_upload_and_download(envd):
    """Bodies far larger than any buffer survive both directions, multipart and octet-stream, byte for byte."""
    data = os.urandom(1 << 20) * 9 + b"tail"
    assert (await envd.http.post("/files", files=[("file", ("multi", data))])).is_success
    headers = {"content-type": "application/octet-stream"}
    assert (await envd.http.post("/files?path=octets", content=data, headers=headers)).is_success
    for name in ("multi", "octets"):
        assert (envd.home / name).read_bytes() == data
        assert (await envd.http.get(f"/files?path={name}")).content == data


async def test_download_headers(envd):
    """Type by name, disposition, date and length; identity even when gzip is among the offers."""
    (envd.home / "page one.html").write_text("<p>")
    answer = await envd.http.get("/files", params={"path": "page one.html"})
    assert answer.content == b"<p>"
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-disposition"] == 'inline; filename="page one.html"'
    assert answer.headers["content-length"] == "3"
    assert "content-encoding" not in answer.headers
    assert answer.headers["vary"] == "Accept-Encoding"
    assert answer.headers["access-control-allow-origin"] == "*"


async def test_download_encodings(envd):
    """Only-gzip clients get gzip, an impossible wish is 406, an empty file has length 0."""
    (envd.home / "f").write_text("text" * 1000)
    packed = await envd.http.get("/files?path=f", headers={"accept-encoding": "gzip"})
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.text == "text" * 1000
    refused = await envd.http.get("/files?path=f", headers={"accept-encoding": "br, identity;q=0"})
    assert refused.status_code == 406
    ranged = {"accept-encoding": "gzip; q=1,*; q=0", "range": "bytes=0-4"}  # a range is never compressed
    assert (await envd.http.get("/files?path=f", headers=ranged)).status_code == 406
    assert (await envd.http.get("/files?path=f", headers=ranged | {"accept-encoding": "gzip"})).text == "textt"
    (envd.home / "empty").touch()
    for offers in ("gzip", "gzip, deflate", "identity"):
        empty = await envd.http.get("/files?path=empty", headers={"accept-encoding": offers})
        assert empty.headers["content-length"] == "0" and "content-encoding" not in empty.headers


@pytest.mark.parametrize(
    ("wanted", "status", "body"),
    [
        ("bytes=2-4", 206, b"234"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-2", 206, b"89"),
        ("bytes=0-99", 206, b"0123456789"),
    ],
)
async def test_ranges(envd, wanted, status, body):
    """One range is answered with exactly its bytes."""
    (envd.home / "digits").write_bytes(b"0123456789")
    answer = await envd.http.get("/files?path=digits", headers={"range": wanted})
    assert (answer.status_code, answer.content) == (status, body)
    assert answer.headers["content-range"].endswith("/10")


async def test_impossible_range_and_conditions(envd):
    """A range beyond the end is 416; an unchanged file is 304; a changed one 412."""
    (envd.home / "digits").write_bytes(b"0123456789")
    answer = await envd.http.get("/files?path=digits", headers={"range": "bytes=10-"})
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */10")
    modified = (await envd.http.get("/files?path=digits")).headers["last-modified"]
    answer = await envd.http.get("/files?path=digits", headers={"if-modified-since": modified})
    assert (answer.status_code, answer.content) == (304, b"")
    answer = await envd.http.get("/files?path=digits", headers={"if-unmodified-since": "Thu, 01 Jan 1970 00:00:01 GMT"})
    assert answer.status_code == 412


async def test_download_errors(envd):
    """Directory, missing file, unknown user and pipe have the contract's statuses and texts."""
    os.mkfifo(envd.home / "pipe")
    for query, status, text in (
        ("path=.", 400, "is a directory"),
        ("path=none", 404, f"path '{envd.home}/none' does not exist"),
        ("path=x&username=ghost", 401, "error looking up user 'ghost'"),
        ("path=pipe", 400, "not a regular file"),
    ):
        answer = await envd.http.get(f"/files?{query}")
        assert answer.status_code == status
        assert text in answer.json()["message"]


async def test_proc_files_have_content(envd):
    """A file that claims to be empty but is not, as in /proc, is sent whole."""
    assert "Linux" in (await envd.http.get("/files?path=/proc/version")).text


async def test_signatures(envd):
    """With a token: header or signature; each failure has the contract's exact text."""
    envd.state.access_token = "secret"
    (envd.home / "f").write_text("x")
    good = sign("f", "read", "user", "secret", None)
    cases = [
        ({"path": "f"}, {}, 401, "missing signature query parameter"),
        ({"path": "f"}, {"x-access-token": "no"}, 401, "access token present in header but does not match"),
        ({"path": "f"}, {"x-access-token": "secret"}, 200, ""),
        ({"path": "f", "username": "user", "signature": good}, {}, 200, ""),
        ({"path": "f", "username": "root", "signature": good}, {}, 401, "invalid signature"),
        ({"path": "f", "signature": sign("f", "write", "", "secret", None)}, {}, 401, "invalid signature"),
        (
            {"path": "f", "signature": sign("f", "read", "", "secret", "1"), "signature_expiration": "1"},
            {},
            401,
            "signature is already expired",
        ),
    ]
    for query, headers, status, message in cases:
        answer = await envd.http.get("/files", params=query, headers=headers)
        assert answer.status_code == status, query
        assert status == 200 or answer.json() == {"code": 401, "message": message}


async def test_metadata(envd):
    """X-Metadata headers come back in the answer and in Stat, and the next upload replaces the whole set."""
    headers = {"content-type": "application/octet-stream", "x-metadata-Purpose": "demo"}
    answer = await envd.http.post("/files?path=m", content=b"1", headers=headers)
    if answer.status_code == 400 and "extended attributes" in answer.text:
        pytest.skip("the file system of /tmp has no extended attributes: use ext4, xfs or a newer tmpfs")
    assert answer.json()[0]["metadata"] == {"purpose": "demo"}
    stat = await envd.rpc("filesystem.Filesystem/Stat", {"path": "m"})
    assert stat.json()["entry"]["metadata"] == {"purpose": "demo"}
    repeated = [("content-type", "application/octet-stream"), ("x-metadata-a", "first"), ("X-Metadata-A", "second")]
    answer = await envd.http.post("/files?path=m", content=b"1", headers=repeated)
    assert answer.json()[0]["metadata"] == {"a": "first"}
    await envd.http.post("/files?path=m", content=b"2", headers={"content-type": "application/octet-stream"})
    assert "metadata" not in (await envd.rpc("filesystem.Filesystem/Stat", {"path": "m"})).json()["entry"]


@pytest.mark.skipif(os.geteuid() != 0, reason="changing the kernel's own files needs root: run as root")
async def test_files_of_the_kernel_are_written(envd):
    """A file system without blocks, as /proc is, is not full; what it cannot hold is no matter of space."""
    content = Path("/proc/self/coredump_filter").read_bytes()
    headers = {"content-type": "application/octet-stream"}
    answer = await envd.http.post("/files?path=/proc/self/coredump_filter", content=b"0x" + content, headers=headers)
    assert answer.status_code == 200, answer.text
    assert (await envd.http.post("/files?path=/proc/none/x", content=b"x", headers=headers)).status_code == 404


async def test_compose(envd):
    """Parts are joined in order and removed; a missing part changes nothing, nor does a part as the destination."""
    for name in ("p1", "p2"):
        (envd.home / name).write_text(name)
    body = {"source_paths": ["p1", "p2", "p3"], "destination": "out/all"}
    assert (await envd.http.post("/files/compose", json=body)).status_code == 404
    assert (envd.home / "p1").exists()
    body["source_paths"].pop()
    assert (await envd.http.post("/files/compose", json={**body, "destination": "p1"})).status_code == 400
    answer = await envd.http.post("/files/compose", json=body)
    assert answer.json()["path"] == str(envd.home / "out/all")
    assert (envd.home / "out/all").read_text() == "p1p2"
    assert sorted(p.name for p in envd.home.iterdir()) == ["out"]
