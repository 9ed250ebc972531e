"""``__main__`` of ``appliance.pyz``: finds a Python and a directory for the extracted tree, then becomes the program.

shiv made the file, :mod:`unpack` extracts it; this module only decides *where* and *whether*. A warm start touches
neither ``zipfile`` nor those: the tree of this very build is there, its directory goes first on ``sys.path``, done.
Names in capitals that :mod:`assemble` fills in are ``@…@`` here. The syntax is that of Python 3.6 on purpose: an older
interpreter must get as far as the sentence that says so, or to a newer one beside it.

Where, in this order: ``SHIV_ROOT`` (trusted as given, may be read-only when extracted before), ``XDG_CACHE_HOME`` or
``~/.cache``, ``/var/cache`` (root), ``/var/tmp``, ``/tmp``. A place counts only when this user owns it, or can make a
directory of mode 0700 there: code is never loaded from a tree that somebody else could have written.
"""

import fcntl
import gc
import os
import sys

BUILD_ID = "@BUILD_ID@"
DIRECTORY = "@DIRECTORY@"  # SHA-256 of names, sizes and checksums of all members
VERSIONS = "@VERSIONS@"  # such as "3.11 3.12"
MACHINE = "@MACHINE@"  # such as "x86_64"
OLDEST = (3, 11)


def main():
    """Run the appliance; never returns."""
    gc.disable()  # until the role has been imported, see appliance/commands/roles.py
    archive = os.path.abspath(sys.argv[0])
    _check_interpreter(archive)
    site = _extracted(archive)
    sys.path[:] = [site] + [entry for entry in sys.path if os.path.abspath(entry or ".") != archive]
    # The tree is this program's own: PYTHONDONTWRITEBYTECODE is about other people's, and obeying it here would
    # compile a thousand modules at every start.
    sys.dont_write_bytecode = not os.access(site, os.W_OK)
    os.environ["APPLIANCE_PYZ"] = archive
    from appliance.cli import main as command

    sys.exit(command())


def _check_interpreter(archive):
    version = "%d.%d" % sys.version_info[:2]
    if sys.version_info < OLDEST:
        _exec_newer(archive)
        _fail("Python %s is too old; %s or newer is needed (none was found in PATH)" % (version, "%d.%d" % OLDEST))
    if version not in VERSIONS.split():
        _fail("this file carries libraries for Python %s, not %s" % (", ".join(VERSIONS.split()), version))
    if os.uname().machine != MACHINE:
        _fail("this file is for %s machines, this one is %s" % (MACHINE, os.uname().machine))


def _exec_newer(archive):
    for version in reversed(VERSIONS.split()):
        for directory in os.environ.get("PATH", "").split(os.pathsep):
            candidate = os.path.join(directory, "python" + version)
            if os.access(candidate, os.X_OK):
                os.execv(candidate, [candidate, archive, *sys.argv[1:]])


def _extracted(archive):
    """The site directory of this build for this Python, extracted if need be."""
    name = "%s_%s_%d%d" % (os.path.basename(archive), BUILD_ID, sys.version_info[0], sys.version_info[1])
    tried = []
    for root, trusted in _roots():
        tree = os.path.join(root, name)
        site = os.path.join(tree, "site-packages")
        if (trusted or _own(root)) and _taken(tree):
            return site
        try:
            if not trusted:
                os.makedirs(root, mode=0o700, exist_ok=True)
                if not _own(root):
                    raise OSError("owned or writable by somebody else")
            _extract(archive, tree)
            _taken(tree)
            if not trusted:
                _sweep(root, name)
            return site
        except OSError as error:
            tried.append("  %s: %s" % (root, error.strerror or error))
        if trusted:
            break
    return _fail("no directory to extract into (name one in SHIV_ROOT); tried:\n" + "\n".join(tried))


def _taken(tree):
    """Whether the tree is there. It is locked then against its removal by a newer version, as long as this process or
    a fork of it lives, and its time stamp says when it was used last."""
    site = os.path.join(tree, "site-packages")
    try:
        opened = os.open(tree, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return os.path.isdir(site)
    try:
        fcntl.flock(opened, fcntl.LOCK_SH | fcntl.LOCK_NB)
        os.utime(opened)
    except BlockingIOError:  # it is being removed: unpack waits for that
        os.close(opened)
        return False
    except OSError:
        pass  # a place that is only read
    try:
        return os.path.samestat(os.fstat(opened), os.stat(tree)) and os.path.isdir(site)
    except OSError:
        return False  # removed before it was locked


def _sweep(root, own):
    """Remove old versions' trees. It is never a reason not to start."""
    try:
        from _sweep import sweep

        sweep(root, own)
    except Exception as error:
        sys.stderr.write("appliance: old versions in %s are left there: %s\n" % (root, error))


def _roots():
    given = os.environ.get("SHIV_ROOT")
    if given:
        yield os.path.abspath(os.path.expanduser(given)), True
        return
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    if os.path.isabs(cache) and _own(os.path.dirname(cache)):
        yield os.path.join(cache, "appliance"), False
    if os.geteuid() == 0:
        yield "/var/cache/appliance", False
    for parent in ("/var/tmp", "/tmp"):
        yield os.path.join(parent, "appliance-%d" % os.geteuid()), False


def _own(path):
    """Whether ``path`` is a real directory that only this user can write to."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return found.st_uid == os.geteuid() and found.st_mode & 0o170022 == 0o040000


def _extract(archive, target):
    """Extract under a lock, beside the target, moved into place when whole."""
    import zipfile
    import zlib

    mask = os.umask(0o022)
    try:
        with zipfile.ZipFile(archive) as opened:
            if _directory(opened) != DIRECTORY:
                _fail("%s is not what was built: changed or tampered with; copy it again" % archive)
            members = opened.infolist()
        from _unpack import unpack  # after the check: nothing of a changed file runs

        unpack(archive, members, target)
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        _fail("%s is damaged (%s); copy it again" % (archive, error))
    finally:
        os.umask(mask)


def _directory(opened):
    """What identifies the members; their contents are held to it when they are extracted."""
    import hashlib

    found = sorted((one.filename, one.file_size, one.CRC) for one in opened.infolist() if one.filename != "__main__.py")
    return hashlib.sha256(repr(found).encode()).hexdigest()


def _fail(message):
    sys.stderr.write("appliance: %s\n" % message)
    sys.exit(1)


if __name__ == "__main__":
    main()
