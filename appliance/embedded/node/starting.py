"""A container's first process, from the template's fork to the moment it is the supervisor (or the command's init).

It begins as the box's root in a new pid namespace and gives everything up step by step: control groups, network,
private root, then the sandbox's own user namespace. Only then does it answer the agent and run anything that is not
ours.
"""

from __future__ import annotations

import os
import resource
import signal
import socket
from pathlib import Path
from typing import NoReturn

import msgspec

from appliance.embedded.node import initproc, podnet, process_ids, syscalls
from appliance.embedded.node.cgroups import Group
from appliance.embedded.node.request import Command, Spawn, Spawned
from appliance.embedded.node.rootfs import Assembly
from appliance.embedded.node.userns import NamespaceMaker
from appliance.runtime.supervise import title

_OWN = syscalls.CLONE_NEWNS | syscalls.CLONE_NEWIPC | syscalls.CLONE_NEWUTS | syscalls.CLONE_NEWCGROUP


def start(spawn: Spawn, fds: list[int], maker: NamespaceMaker | None) -> NoReturn:
    """Run in a fresh fork of the template; ``fds`` are stdout, stderr and the answer socket. Ends the process."""
    answer = socket.socket(fileno=fds[2])
    # The template's command line has paths of the box, and sandboxes can read it.
    title.show("appliance: container", "container")
    try:
        _plumb(fds[0], fds[1])
        number = int(os.readlink("/proc/self"))
        began = process_ids.start_time(number)
        _isolate(spawn, maker)
        answer.send(msgspec.json.encode(Spawned(number, began)))
    except Exception as error:
        answer.send(msgspec.json.encode(Spawned(error=f"{type(error).__name__}: {error}"[:1000])))
        os._exit(71)
    answer.close()
    os.closerange(3, 65_536)
    try:
        _become_container(spawn)
    finally:
        os._exit(70)


def _plumb(stdout: int, stderr: int) -> None:
    os.setsid()
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    null = os.open("/dev/null", os.O_RDONLY)
    for source, target in ((null, 0), (stdout, 1), (stderr, 2)):
        os.dup2(source, target)


def _isolate(spawn: Spawn, maker: NamespaceMaker | None) -> None:
    if spawn.cgroups:
        Group(spawn.unified, spawn.cgroups).enter()
    if spawn.join:
        _join_network(spawn.join)
    elif spawn.network is not None:
        podnet.enter_new(spawn.network)
    if spawn.root is None or maker is None:
        return
    userns = maker.make(spawn.uid_start)
    syscalls.unshare(syscalls.CLONE_NEWNS)
    figures = Group(spawn.unified, spawn.cgroups).figures() if spawn.cgroups else {}
    Assembly(spawn.root, userns, spawn.uid_start, figures=figures).build()
    syscalls.setns(userns, syscalls.CLONE_NEWUSER)
    syscalls.unshare(_OWN)
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    # A change of identity makes a process undumpable, and then /proc/self belongs to a uid that does not exist inside.
    syscalls.prctl(syscalls.PR_SET_DUMPABLE, 1)
    syscalls.sethostname(spawn.hostname[:64])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _join_network(pid: int) -> None:
    fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        syscalls.setns(fd, syscalls.CLONE_NEWNET)
    finally:
        os.close(fd)


def _become_container(spawn: Spawn) -> NoReturn:
    os.environ.clear()
    os.environ.update(spawn.env)
    if spawn.runtime is None:
        initproc.run(spawn.main or Command(("sleep", "infinity"), dict(spawn.env)))
    from appliance.runtime import accounts, seal
    from appliance.runtime.settings import RuntimeSettings
    from appliance.runtime.supervisor import MainCommand, run

    main = None
    if spawn.main is not None:
        command = spawn.main
        main = MainCommand(
            argv=command.argv, env=command.env, cwd=command.cwd, user=command.user, uid=command.uid, gid=command.gid
        )
    # HOME and PATH are each user's own; given here they would be everybody's.
    inherited = {name: value for name, value in spawn.env.items() if name not in ("HOME", "PATH")}
    etc = Path(str(spawn.runtime.pop("etc", "/etc")))
    if spawn.root is not None:
        accounts.ensure(RuntimeSettings.default_user)
    # Without a root of its own the container's root is the box's: not to be marked as a sandbox, nor to trust for one.
    root = None if spawn.root is None else Path("/")
    kept = seal.place(spawn.env)
    settings = RuntimeSettings(
        system_env=inherited,
        etc=etc,
        marker_root=root,
        trust_root=root,
        seal_file=kept,
        **spawn.runtime,  # type: ignore[arg-type]
    )
    run(settings, main)
