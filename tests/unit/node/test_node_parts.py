"""The smaller parts: slots, records, groups, probes, logs, identities, references, image names."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import io
import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest

from appliance.api import imagenames
from appliance.embedded.node import containers, disk, identity, images, preflight
from appliance.embedded.node.cgroups import Hierarchy, Limits
from appliance.embedded.node.environment import expand
from appliance.embedded.node.podlogs import LogWriter
from appliance.embedded.node.podspec import Probe
from appliance.embedded.node.probing import Prober, attempt
from appliance.embedded.node.process_ids import ProcessId
from appliance.embedded.node.records import Record, Records, Slots


def test_slots_are_reused_late() -> None:
    """A freed slot is not the next one taken; a full node says so."""
    slots = Slots(3)
    assert [slots.take(), slots.take()] == [0, 1]
    slots.give(0)
    assert [slots.take(), slots.take()] == [2, 0]
    with pytest.raises(OverflowError, match="3 pod slots"):
        slots.take()


def test_a_record_that_does_not_fit_is_written_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A disk that refuses a record is said once and ends nothing; the record is there as soon as there is room."""
    records = Records(tmp_path / "pods")
    (tmp_path / "pods").write_text("in the way")
    for slot in (4, 5):
        records.write(Record("u1", "n", "p", slot, 1.0))
    assert records.write_again() == 1
    assert caplog.text.count("record not written") == 1
    (tmp_path / "pods").unlink()
    assert records.write_again() == 0
    assert {uid: record.slot for uid, record in records.load().items()} == {"u1": 5}


def test_a_removed_pod_is_gone_whatever_is_written_meanwhile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exit file that the template writes while the directory is being emptied does not keep it there."""
    records = Records(tmp_path)
    records.write(Record("u1", "n", "p", 4, 1.0))
    real = shutil.rmtree

    def late_writer(path: Path, **options: bool) -> None:
        with contextlib.suppress(FileNotFoundError):
            records.exit_file("u1", "c").write_text("{}")
        real(path, **options)

    monkeypatch.setattr(shutil, "rmtree", late_writer)
    records.remove("u1")
    assert list(tmp_path.iterdir()) == []


def test_records_survive_and_torn_ones_vanish(tmp_path: Path) -> None:
    """A record is read back whole; a directory without a readable one is removed."""
    records = Records(tmp_path)
    records.write(Record("u1", "n", "p", 4, 1.0))
    (tmp_path / "u2").mkdir()
    (tmp_path / "u2" / "record.json").write_text("{")
    assert {uid: r.slot for uid, r in records.load().items()} == {"u1": 4}
    assert not (tmp_path / "u2").exists()


def test_a_recycled_pid_is_another_process() -> None:
    """Pid and start time together name a process."""
    me = ProcessId.of(os.getpid())
    assert me.alive()
    assert not ProcessId(me.pid, me.start + 1).alive()


def test_groups_of_version_one(tmp_path: Path) -> None:
    """Each controller has its own directory; limits land in the files the kernel reads."""
    mounts = "\n".join(
        f"1 1 0:1 / {tmp_path}/{c} rw - cgroup cgroup rw,{c}" for c in ("cpu", "memory", "pids", "freezer")
    )
    hierarchy = Hierarchy.find(mounts, "box")
    assert not hierarchy.unified
    group = hierarchy.group("g")
    for controller, names in {
        "cpu": ["cpu.cfs_quota_us", "cpu.shares"],
        "memory": ["memory.limit_in_bytes"],
        "pids": ["pids.max"],
    }.items():
        for name in names:
            path = Path(group.paths[controller], name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    group.create(Limits(1.5, 0.5, 1024, 9))
    assert Path(group.paths["cpu"], "cpu.cfs_quota_us").read_text() == "150000"
    assert Path(group.paths["cpu"], "cpu.shares").read_text() == "512"
    assert Path(group.paths["memory"], "memory.limit_in_bytes").read_text() == "1024"
    Path(group.paths["memory"], "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 3\n")
    assert group.oom_kills() == 3


def test_groups_of_version_two(tmp_path: Path) -> None:
    """One directory for all; freezing is a file of its own."""
    hierarchy = Hierarchy.find(f"1 1 0:1 / {tmp_path} rw - cgroup2 cgroup2 rw", "box")
    group = hierarchy.group("g")
    directory = tmp_path / "box" / "g"
    directory.mkdir(parents=True)
    for name in ("cpu.max", "cpu.weight", "memory.max", "pids.max", "cgroup.freeze"):
        (directory / name).touch()
    group.create(Limits(None, 1.0, None, None))
    group.freeze(True)
    assert hierarchy.unified
    assert (directory / "cpu.max").read_text() == "max 100000"
    assert (directory / "cgroup.freeze").read_text() == "1"


def test_figures_of_both_versions(tmp_path: Path) -> None:
    """What a sandbox sees of its groups: one directory in version 2; CPU, its accounting and memory in version 1."""
    one = "\n".join(
        f"1 1 0:1 / /c/{c} rw - cgroup cgroup rw,{c}" for c in ("cpu", "cpuacct", "memory", "pids", "freezer")
    )
    assert Hierarchy.find(one, "box").group("g").figures() == {
        "cpu": "/c/cpu/box/g",
        "cpuacct": "/c/cpuacct/box/g",
        "memory": "/c/memory/box/g",
    }
    joined = one.replace("rw,cpuacct", "rw,blkio").replace("rw,cpu\n", "rw,cpu,cpuacct\n")
    assert Hierarchy.find(joined, "box").group("g").figures()["cpuacct"] == "/c/cpu/box/g"
    two = Hierarchy.find("1 1 0:1 / /c rw - cgroup2 cgroup2 rw", "box").group("g")
    assert two.figures() == {"": "/c/box/g"}


def test_missing_controllers_are_named() -> None:
    """Without control groups the error lists what is needed."""
    with pytest.raises(OSError, match="need cpu, memory, pids, freezer"):
        Hierarchy.find("1 1 0:1 / /x rw - ext4 /dev/x rw", "box")


async def test_probes_against_a_real_server() -> None:
    """200 passes, 503 fails, a closed port fails, a named port is looked up."""
    answers = [b"200 OK", b"503 No"]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 " + answers.pop(0) + b"\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    async def never(argv: list[str], timeout: float) -> int:
        return 1

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    probe = Probe({"httpGet": {"path": "/health", "port": "web"}}, 0, 1, 1, 1, 3, None)
    assert await attempt(probe, "127.0.0.1", never, {"web": port})
    assert not await attempt(probe, "127.0.0.1", never, {"web": port})
    server.close()
    await server.wait_closed()
    assert not await attempt(Probe({"tcpSocket": {"port": port}}, 0, 1, 1, 1, 3, None), "127.0.0.1", never, {})
    assert not await attempt(Probe({"exec": {"command": ["x"]}}, 0, 1, 1, 1, 3, None), "127.0.0.1", never, {})


async def test_a_startup_probe_decides_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Failures below the threshold are forgiven; the first success ends it."""
    results = [False, False, True]

    async def tryout(probe: Probe) -> bool:
        return results.pop(0)

    async def at_once(delay: float) -> None:
        return None

    monkeypatch.setattr("appliance.embedded.node.probing.asyncio.sleep", at_once)
    probe = Probe({"exec": {}}, 1, 2, 1, 1, 3, None)
    assert await Prober(probe, True, tryout, lambda: False).run(lambda ok: None)
    assert results == []


def test_logs_are_lines_with_time_and_stream(tmp_path: Path) -> None:
    """A line is written when it is complete; an incomplete last line is written at the end."""
    writer = LogWriter(tmp_path / "c.log")
    writer.write("stdout", b"one\ntw")
    assert (tmp_path / "c.log").read_text().split(" ", 3)[1:] == ["stdout", "F", "one\n"]
    writer.write("stdout", b"o")
    writer.flush()
    assert (tmp_path / "c.log").read_text().endswith(" stdout F two\n")


def test_identities_come_from_the_given_files(tmp_path: Path) -> None:
    """Names, numbers and groups; an unknown name is an error, an unknown number is not."""
    (tmp_path / "passwd").write_text("user:x:1000:1000:u:/home/user:/bin/bash\n")
    (tmp_path / "group").write_text("user:x:1000:\nsudo:x:27:user\n")
    assert identity.lookup("user", None, None, str(tmp_path)).groups == (1000, 27)
    assert identity.lookup("1000:sudo", None, None, str(tmp_path)).gid == 27
    assert identity.lookup(None, 5, None, str(tmp_path)).uid == 5
    with pytest.raises(LookupError, match="nobody-here"):
        identity.lookup("nobody-here", None, None, str(tmp_path))


def test_references_expand_as_in_kubernetes() -> None:
    """Known names are replaced, unknown ones stay, two dollars are one."""
    assert expand("$(A)-$(B)-$$(A)", {"A": "1"}) == "1-$(B)-$(A)"


@pytest.mark.parametrize(
    ("short", "full"),
    [
        ("python", "docker.io/library/python:latest"),
        ("a/b:1", "docker.io/a/b:1"),
        ("r.io/a/b@sha256:0", "r.io/a/b@sha256:0"),
        ("localhost:5000/x", "localhost:5000/x:latest"),
    ],
)
def test_image_names(short: str, full: str) -> None:
    """Names are completed as every registry client does."""
    assert imagenames.normal(short) == full


def _docker_archive(path: Path) -> None:
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w:gz") as tar:
        entry = tarfile.TarInfo("etc/hello")
        entry.size = 2
        tar.addfile(entry, io.BytesIO(b"hi"))
    unpacked = "sha256:" + hashlib.sha256(gzip.decompress(layer.getvalue())).hexdigest()
    rootfs = {"type": "layers", "diff_ids": [unpacked]}
    config = json.dumps({"config": {"Env": ["A=1"], "Cmd": ["sh"], "WorkingDir": "/w"}, "rootfs": rootfs}).encode()
    manifest = json.dumps([{"Config": "c.json", "RepoTags": ["tiny:1"], "Layers": ["l.tar"]}]).encode()
    with tarfile.open(path, "w") as tar:
        for name, data in {"c.json": config, "manifest.json": manifest, "l.tar": layer.getvalue()}.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def test_a_docker_archive_is_loaded_and_found(tmp_path: Path) -> None:
    """Layers are unpacked, the configuration is kept, other names stay ``host``."""
    _docker_archive(tmp_path / "a.tar")
    library = images.Library(tmp_path / "images")
    assert library.load(tmp_path / "a.tar") == ["docker.io/library/tiny:1"]
    image = library.resolve("tiny:1")
    assert image is not None
    assert (image.env, image.command, image.cwd) == ({"A": "1"}, ("sh",), "/w")
    assert Path(image.layers[0], "etc/hello").read_text() == "hi"
    assert library.resolve("other") is None


def test_what_is_no_archive_is_refused(tmp_path: Path) -> None:
    """The error names the file and what was expected."""
    (tmp_path / "x.tar").write_bytes(b"nothing")
    with pytest.raises(images.BadArchive, match="not an OCI or Docker image archive"):
        images.Library(tmp_path / "images").load(tmp_path / "x.tar")


def test_sparse_copy_keeps_holes(tmp_path: Path) -> None:
    """Content is equal and a hole costs nothing."""
    with open(tmp_path / "a", "wb") as file:
        file.truncate(64 << 20)
        file.seek(1 << 20)
        file.write(b"data")
    disk.copy_sparse(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "b").stat().st_size == 64 << 20
    assert (tmp_path / "b").stat().st_blocks * 512 < 1 << 20
    with open(tmp_path / "b", "rb") as file:
        file.seek(1 << 20)
        assert file.read(4) == b"data"


def test_loopback_name_servers_are_left_out(tmp_path: Path) -> None:
    """A resolver on the box's loopback is useless to a pod: the upstream list is taken instead."""
    (tmp_path / "stub").write_text("nameserver 127.0.0.53\n")
    (tmp_path / "real").write_text("nameserver 9.9.9.9\n")
    assert containers.resolv_conf((tmp_path / "stub", tmp_path / "real")) == "nameserver 9.9.9.9\n"


def test_missing_privileges_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal lists what is missing and names the way out."""
    monkeypatch.setattr(preflight, "_capabilities", lambda: 0)
    with pytest.raises(preflight.NotPossible, match=r"CAP_SYS_ADMIN.*--isolation=process"):
        preflight.check("appliance-test-never-made")
    assert not Path("/sys/fs/cgroup/memory/appliance-test-never-made").exists()
