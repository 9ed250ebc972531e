"""Every feature of the Python SDK ``e2b``, one probe each (see harness.py). Run inside a release's environment."""

from __future__ import annotations

import os
import uuid
from typing import Any

import e2b
from harness import TEMPLATE, Absent, call, fetch, has_key, main, need, probe, takes, until


class Kit:
    """One mode of the SDK and a sandbox that the probes share."""

    def __init__(self, sandbox_class: Any, template_class: Any, *, is_async: bool) -> None:
        self.Sandbox = sandbox_class
        self.Template = template_class
        self.is_async = is_async
        self.sbx: Any = None

    async def open(self) -> None:
        """Make the shared sandbox."""
        self.sbx = await self.create(timeout=900)

    async def close(self) -> None:
        """End it."""
        await call(self.sbx.kill())

    async def create(self, **options: Any) -> Any:
        """A sandbox of the template."""
        return await call(self.Sandbox.create(TEMPLATE, **{"timeout": 300, **options}))

    async def run(self, command: str, **options: Any) -> Any:
        """A command in the shared sandbox."""
        return await call(self.sbx.commands.run(command, **options))

    async def page(self, pages: Any) -> list[str]:
        """Ids on the next page of a list."""
        return [one.sandbox_id for one in await call(pages.next_items())]

    async def serve(self, sbx: Any, port: int, program: str = "python3 -m http.server {port} --bind 127.0.0.1") -> None:
        """A web server in the sandbox, listening."""
        await call(sbx.commands.run(program.format(port=port), background=True, timeout=0))
        probe_line = f"for i in $(seq 300); do (: </dev/tcp/127.0.0.1/{port}) 2>/dev/null && break; sleep 0.1; done"
        await call(sbx.commands.run(f"bash -c '{probe_line}'", timeout=120))


# Lifecycle ---------------------------------------------------------------------------------------------------------


@probe("create, kill, is_running")
async def create_kill(kit: Kit) -> None:
    sbx = await kit.create()
    assert await call(sbx.is_running())
    assert await call(sbx.kill()) is True
    assert await call(sbx.is_running()) is False
    assert await call(sbx.kill()) is False


@probe("connect to a running sandbox")
async def connect(kit: Kit) -> None:
    again = await call(kit.Sandbox.connect(kit.sbx.sandbox_id))
    assert (await call(again.commands.run("echo here"))).stdout == "here\n"


@probe("info, metadata of any characters")
async def info(kit: Kit) -> None:
    metadata = {"a b": "c&d=e", "ü": "%41+ x/"}
    sbx = await kit.create(metadata=metadata)
    found = await call(sbx.get_info())
    await call(sbx.kill())
    assert found.metadata == metadata, found.metadata
    assert found.sandbox_id == sbx.sandbox_id and found.end_at > found.started_at


@probe("list: metadata and state filters, paging")
async def listing(kit: Kit) -> None:
    metadata = {"run/of": f"{uuid.uuid4()} %&="}
    made = [await kit.create(metadata=metadata) for _ in range(2)]
    query = e2b.SandboxQuery(metadata=metadata, state=[e2b.SandboxState.RUNNING])
    pages = kit.Sandbox.list(query=query, limit=1)
    seen = await kit.page(pages)
    assert pages.has_next
    seen += await kit.page(pages)
    for sbx in made:
        await call(sbx.kill())
    assert seen == [sbx.sandbox_id for sbx in reversed(made)]
    assert await kit.page(kit.Sandbox.list(query=query)) == []


@probe("timeout, longer and shorter")
async def timeout(kit: Kit) -> None:
    sbx = await kit.create()
    ends = []
    for seconds in (300, 30):
        await call(sbx.set_timeout(seconds))
        ends.append((await call(sbx.get_info())).end_at)
    await call(sbx.kill())
    assert 200 < (ends[0] - ends[1]).total_seconds() < 275, ends


@probe("timeout ends the sandbox")
async def expiry(kit: Kit) -> None:
    sbx = await kit.create(timeout=1)

    async def gone() -> bool:
        return not await call(sbx.is_running())

    await until(gone)


async def pause(sbx: Any) -> Any:
    """Pause, by the name that the release has."""
    if not hasattr(sbx, "pause"):
        need(sbx, "beta_pause")
    return await call((sbx.pause if hasattr(sbx, "pause") else sbx.beta_pause)())


@probe("pause and resume, memory kept")
async def pausing(kit: Kit) -> None:
    sbx = await kit.create()
    handle = await call(sbx.commands.run("sleep 600; echo never", background=True, timeout=0))
    await pause(sbx)
    assert await call(sbx.is_running()) is False
    again = await call(kit.Sandbox.connect(sbx.sandbox_id, timeout=300))
    assert [one.pid for one in await call(again.commands.list())] == [handle.pid]
    await call(again.kill())


@probe("pause when the timeout expires")
async def auto_pause(kit: Kit) -> None:
    if hasattr(kit.Sandbox, "beta_create"):
        sbx = await call(kit.Sandbox.beta_create(TEMPLATE, timeout=1, auto_pause=True))
    else:
        takes(kit.Sandbox.create, "lifecycle")
        sbx = await kit.create(timeout=1, lifecycle={"on_timeout": "pause"})

    async def paused() -> bool:
        return (await call(sbx.get_info())).state == e2b.SandboxState.PAUSED

    await until(paused)
    again = await call(kit.Sandbox.connect(sbx.sandbox_id))
    assert (await call(again.commands.run("echo here"))).stdout == "here\n"
    await call(again.kill())


@probe("resume by traffic (auto-resume)")
async def auto_resume(kit: Kit) -> None:
    takes(kit.Sandbox.create, "lifecycle")
    sbx = await kit.create(lifecycle={"on_timeout": "pause", "auto_resume": True})
    await pause(sbx)
    assert (await call(sbx.commands.run("echo here"))).stdout == "here\n"
    await call(sbx.kill())


@probe("idempotent create")
async def idempotent(kit: Kit) -> None:
    takes(kit.Sandbox.create, "idempotency_key")
    key = uuid.uuid4().hex
    first, second = [await kit.create(idempotency_key=key) for _ in range(2)]
    await call(first.kill())
    assert first.sandbox_id == second.sandbox_id


@probe("environment variables")
async def envs(kit: Kit) -> None:
    sbx = await kit.create(envs={"A": "1 'x'", "B": "2"})
    done = await call(sbx.commands.run("echo $A,$B,$C", envs={"B": "3", "C": "4"}))
    after = await call(sbx.commands.run("echo $A,$B,$C"))
    await call(sbx.kill())
    assert (done.stdout, after.stdout) == ("1 'x',3,4\n", "1 'x',2,\n")


@probe("metrics")
async def metrics(kit: Kit) -> None:
    async def some() -> bool:
        return bool(await call(kit.sbx.get_metrics()))

    await until(some)
    assert all(one.mem_total > 0 for one in await call(kit.sbx.get_metrics()))


# Commands and terminals ---------------------------------------------------------------------------------------------


@probe("commands in the foreground")
async def foreground(kit: Kit) -> None:
    seen: list[str] = []
    done = await kit.run("echo out; echo err >&2", on_stdout=seen.append, on_stderr=seen.append)
    assert (done.stdout, done.stderr, done.exit_code, sorted(seen)) == ("out\n", "err\n", 0, ["err\n", "out\n"])
    try:
        await kit.run("exit 7")
    except e2b.CommandExitException as error:
        assert error.exit_code == 7
    else:
        raise AssertionError("no CommandExitException")


@probe("user, cwd, timeout of a command")
async def options(kit: Kit) -> None:
    assert (await kit.run("whoami; pwd", user="root", cwd="/tmp")).stdout == "root\n/tmp\n"
    try:
        await kit.run("sleep 20", timeout=1)
    except Exception as error:  # 2.28 also gives its HTTP library the time-out, which may be first
        assert isinstance(error, e2b.TimeoutException) or type(error).__name__ == "ReadTimeout", error
        return
    raise AssertionError("no TimeoutException")


@probe("commands in the background: connect, list, kill")
async def background(kit: Kit) -> None:
    handle = await kit.run("echo one; read x; echo $x", background=True, stdin=True)
    assert handle.pid in [one.pid for one in await call(kit.sbx.commands.list())]
    other = await call(kit.sbx.commands.connect(handle.pid))
    await call(kit.sbx.commands.send_stdin(handle.pid, "two\n"))
    assert "two\n" in (await call(other.wait())).stdout
    assert (await call(handle.wait())).stdout == "one\ntwo\n"
    sleeper = await kit.run("sleep 60", background=True)
    assert await call(kit.sbx.commands.kill(sleeper.pid)) is True
    try:
        await call(sleeper.wait())
    except e2b.CommandExitException:
        return
    raise AssertionError("the killed command ended well")


@probe("end of standard input (close_stdin)")
async def close_stdin(kit: Kit) -> None:
    need(kit.sbx.commands, "close_stdin")
    handle = await kit.run("cat", background=True, stdin=True)
    await call(kit.sbx.commands.send_stdin(handle.pid, "text"))
    await call(kit.sbx.commands.close_stdin(handle.pid))
    assert (await call(handle.wait())).stdout == "text"


@probe("standard input as a stream (stream_input)")
async def stream_input(kit: Kit) -> None:
    need(kit.sbx.commands, "stream_input", "close_stdin")
    handle = await kit.run("cat", background=True, stdin=True)
    pieces = ["one ", "two ", "three"]
    if kit.is_async:
        stream = kit.sbx.commands.stream_input(handle.pid)
        for piece in pieces:
            await stream.send(piece)
        await stream.close()
    else:
        kit.sbx.commands.stream_input(handle.pid, iter(pieces))
    await call(kit.sbx.commands.close_stdin(handle.pid))
    assert (await call(handle.wait())).stdout == "one two three"


@probe("terminal (PTY): input, resize, kill")
async def terminal(kit: Kit) -> None:
    size, wide = e2b.PtySize(rows=24, cols=80), e2b.PtySize(rows=24, cols=132)
    screen = bytearray()
    if kit.is_async:
        pty = await kit.sbx.pty.create(size, on_data=screen.extend)
    else:
        pty = kit.sbx.pty.create(size)
    await call(kit.sbx.pty.resize(pty.pid, wide))
    await call(kit.sbx.pty.send_stdin(pty.pid, b"stty size; exit\n"))
    await call(pty.wait() if kit.is_async else pty.wait(on_pty=screen.extend))
    assert b"24 132" in screen, bytes(screen)
    other = await call(kit.sbx.pty.create(size, on_data=screen.extend) if kit.is_async else kit.sbx.pty.create(size))
    assert await call(kit.sbx.pty.kill(other.pid)) is True


# Files --------------------------------------------------------------------------------------------------------------


@probe("files: write and read, text and bytes")
async def files(kit: Kit) -> None:
    own, data = kit.sbx.files, bytes(range(256)) * 300
    await call(own.write("a/b/text", "hällo"))
    await call(own.write("bytes", data))
    await call(own.write("empty", ""))
    assert await call(own.read("a/b/text")) == "hällo"
    assert bytes(await call(own.read("bytes", format="bytes"))) == data
    assert await call(own.read("empty")) == ""
    try:
        await call(own.read("missing"))
    except e2b.NotFoundException:
        return
    raise AssertionError("no NotFoundException")


@probe("files: streams")
async def streams(kit: Kit) -> None:
    import io

    await call(kit.sbx.files.write("stream", io.BytesIO(b"x" * 1_000_000)))
    got = await call(kit.sbx.files.read("stream", format="stream"))
    parts = [part async for part in got] if hasattr(got, "__aiter__") else list(got)
    assert b"".join(parts) == b"x" * 1_000_000


@probe("files: several at once")
async def several(kit: Kit) -> None:
    need(kit.sbx.files, "write_files")
    entries = [{"path": f"many/{number}", "data": str(number)} for number in range(3)]
    made = await call(kit.sbx.files.write_files(entries))
    assert [one.path for one in made] == [f"/home/user/many/{number}" for number in range(3)]


@probe("files: list, info, exists, rename, remove, make_dir")
async def tree(kit: Kit) -> None:
    own = kit.sbx.files
    assert await call(own.make_dir("dir/sub")) is True
    assert await call(own.make_dir("dir/sub")) is False
    await call(own.write("dir/sub/file", "12345"))
    assert [one.path for one in await call(own.list("dir", depth=2))] == [
        "/home/user/dir/sub", "/home/user/dir/sub/file"]  # fmt: skip
    await call(own.rename("dir/sub/file", "dir/moved"))
    found = await call(own.get_info("dir/moved"))
    assert (found.name, found.size, found.owner) == ("moved", 5, "user")
    await call(own.remove("dir"))
    assert await call(own.exists("dir")) is False


@probe("files: watch a tree")
async def watching(kit: Kit) -> None:
    own = kit.sbx.files
    takes(own.watch_dir, "recursive")
    await call(own.make_dir("watched/deep"))
    seen: list[Any] = []
    if kit.is_async:
        handle = await own.watch_dir("watched", on_event=seen.append, recursive=True)
    else:
        handle = own.watch_dir("watched", recursive=True)
    await call(own.write("watched/deep/new", "x"))

    async def written() -> bool:
        if not kit.is_async:
            seen.extend(handle.get_new_events())
        return any(one.name == "deep/new" and one.type == e2b.FilesystemEventType.WRITE for one in seen)

    await until(written)
    await call(handle.stop())


@probe("files: metadata of a file")
async def file_metadata(kit: Kit) -> None:
    takes(kit.sbx.files.write, "metadata")
    await call(kit.sbx.files.write("labelled", "x", metadata={"kind": "note"}))
    assert (await call(kit.sbx.files.get_info("labelled"))).metadata == {"kind": "note"}


@probe("files: signed URLs up and down, secure mode")
async def signed(kit: Kit) -> None:
    sbx = await kit.create(secure=True)
    try:
        await call(sbx.files.write("hidden", "secret"))
        url = sbx.download_url("hidden", user="user", use_signature_expiration=600)
        assert fetch(url) == (200, b"secret"), fetch(url)
        assert fetch(url.replace("v1_", "v1_0"))[0] == 401
        bare = f"https://{sbx.get_host(49983)}/files?path=hidden&username=user"
        assert fetch(bare)[0] == 401
        body = b'--B\r\nContent-Disposition: form-data; name="file"; filename="up"\r\n\r\nposted\r\n--B--\r\n'
        upload = sbx.upload_url("up", user="user", use_signature_expiration=600)
        kind = {"Content-Type": "multipart/form-data; boundary=B"}
        assert fetch(upload, data=body, headers=kind, method="POST")[0] == 200
        assert await call(sbx.files.read("up")) == "posted"
    finally:
        await call(sbx.kill())


@probe("git")
async def git(kit: Kit) -> None:
    need(kit.sbx, "git")
    own = kit.sbx.git
    await call(own.init("repo", initial_branch="main"))
    await call(own.configure_user("A", "a@b.test"))
    await call(kit.sbx.files.write("repo/file", "x"))
    await call(own.add("repo"))
    await call(own.commit("repo", "first"))
    await call(own.create_branch("repo", "next"))
    status = await call(own.status("repo"))
    assert status.is_clean and status.current_branch == "next", status


# Network ------------------------------------------------------------------------------------------------------------


@probe("https://{get_host(port)}")
async def host(kit: Kit) -> None:
    await kit.serve(kit.sbx, 8000)
    status, body = fetch(f"https://{kit.sbx.get_host(8000)}/")
    assert status == 200 and b"Directory listing" in body


@probe("network: lists and internet switch at create")
async def network(kit: Kit) -> None:
    takes(kit.Sandbox.create, "network", "allow_internet_access")
    lists = {"allow_out": ["198.51.100.0/24"], "deny_out": ["0.0.0.0/0"]}
    for wanted in ({"network": lists}, {"allow_internet_access": False}):
        sbx = await kit.create(**wanted)
        assert (await call(sbx.commands.run("echo here"))).stdout == "here\n"
        await call(sbx.kill())


@probe("network: update_network")
async def update_network(kit: Kit) -> None:
    need(kit.sbx, "update_network")
    await call(kit.sbx.update_network({"deny_out": ["203.0.113.7"]}))
    assert "203.0.113.7" in repr((await call(kit.sbx.get_info())).network)
    await call(kit.sbx.update_network({}))


@probe("network: private traffic token, masked host")
async def private(kit: Kit) -> None:
    takes(kit.Sandbox.create, "network")
    sbx = await kit.create(network={"allow_public_traffic": False, "mask_request_host": "inner.test:${PORT}"})
    try:
        need(sbx, "traffic_access_token")
        await kit.serve(sbx, 8000)
        url = f"https://{sbx.get_host(8000)}/"
        assert fetch(url)[0] == 403
        assert fetch(url, headers={"e2b-traffic-access-token": sbx.traffic_access_token})[0] == 200
    finally:
        await call(sbx.kill())


@probe("network: headers set by rules")
async def rules(kit: Kit) -> None:
    has_key(getattr(e2b, "SandboxNetworkOpts", None), "rules")
    headers = {"headers": {"X-Probe": "set"}}
    sbx = await kit.create(network={"rules": {"api.probe.test": [{"transform": headers}]}})
    try:
        assert "api.probe.test" in repr((await call(sbx.get_info())).network)
        bundle = "/etc/ssl/certs/ca-certificates.crt"  # the host has another certificate from now on, which is trusted
        trusted = f"grep -c BEGIN {bundle}"
        more = int((await call(sbx.commands.run(trusted))).stdout) - int((await kit.run(trusted)).stdout)
        assert more == 1
    finally:
        await call(sbx.kill())


@probe("network: ports that speak TLS")
async def https_ports(kit: Kit) -> None:
    has_key(getattr(e2b, "SandboxNetworkOpts", None), "https_ports")
    sbx = await kit.create(network={"https_ports": [8443]})
    try:
        await call(sbx.commands.run("openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=own -keyout k -out c"))
        await kit.serve(sbx, 8443, "openssl s_server -accept {port} -key k -cert c -www")
        status, body = fetch(f"https://{sbx.get_host(8443)}/")
        assert status == 200 and b"s_server" in body
    finally:
        await call(sbx.kill())


@probe("network: a proxy for outbound traffic")
async def egress_proxy(kit: Kit) -> None:
    has_key(getattr(e2b, "SandboxNetworkOpts", None), "egress_proxy")
    sbx = await kit.create(network={"egress_proxy": {"address": "198.51.100.7:1080"}})
    await call(sbx.kill())


@probe("without a domain: E2B_API_URL and E2B_SANDBOX_URL")
async def plain(kit: Kit) -> None:
    takes(e2b.ConnectionConfig.__init__, "api_url", "sandbox_url")
    urls = {"api_url": os.environ["COMPAT_API_URL"], "sandbox_url": os.environ["COMPAT_SANDBOX_URL"]}
    sbx = await kit.create(**urls)
    await call(sbx.files.write("x", "y"))
    assert (await call(sbx.commands.run("cat x"))).stdout == "y"
    await call(sbx.kill())


# Templates and what comes later ------------------------------------------------------------------------------------


@probe("templates: exists, tags")
async def templates(kit: Kit) -> None:
    found = getattr(kit.Template, "exists", None) or getattr(kit.Template, "alias_exists", None)
    if found is None:
        raise Absent("exists")
    assert await call(found(TEMPLATE)) is True and await call(found("no-such-template")) is False
    if hasattr(kit.Template, "assign_tags"):
        tag = f"t{uuid.uuid4().hex[:8]}"
        await call(kit.Template.assign_tags(TEMPLATE, tag))
        assert tag in [one.tag for one in await call(kit.Template.get_tags(TEMPLATE))]
        sbx = await call(kit.Sandbox.create(f"{TEMPLATE}:{tag}", timeout=300))
        await call(sbx.kill())
        await call(kit.Template.remove_tags(TEMPLATE, tag))


@probe("templates: build")
async def build(kit: Kit) -> None:
    need(kit.Template, "build")
    template = kit.Template().from_image("debian:12").run_cmd("true")
    await call(kit.Template.build(template, alias=f"compat-{uuid.uuid4().hex[:8]}", cpu_count=1, memory_mb=512))


@probe("fork")
async def fork(kit: Kit) -> None:
    need(kit.sbx, "fork")
    for one in await call(kit.sbx.fork()):
        await call(one.sandbox.kill() if hasattr(one, "sandbox") else one.kill())


@probe("snapshots")
async def snapshots(kit: Kit) -> None:
    need(kit.sbx, "create_snapshot")
    await call(kit.sbx.create_snapshot())


@probe("volumes")
async def volumes(kit: Kit) -> None:
    need(e2b, "Volume")
    await call((e2b.AsyncVolume if kit.is_async else e2b.Volume).create(f"compat-{uuid.uuid4().hex[:8]}"))


if __name__ == "__main__":
    main(
        {
            "sync": lambda: Kit(e2b.Sandbox, e2b.Template, is_async=False),
            "async": lambda: Kit(e2b.AsyncSandbox, e2b.AsyncTemplate, is_async=True),
        }
    )
