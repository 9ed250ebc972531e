"""Programs of 4 KiB that become another one: an ELF file written by hand, so that it starts where there is nothing.

A script would need a shell in the image, a compiled program a libc. This one is a dozen instructions: it puts fixed
words in front of its own arguments and calls ``execve``. With the loader as the target, an interpreter starts in any
image from any directory: no libc, shell or Python of the image is touched, and no environment variable is set that
programs started later would inherit.

Layout on the stack at the start (x86-64 System V ABI): argc, argv[0], argv[1] …, NULL, envp …. The fixed words are
stored below ``argv[1]``, over argv[0] and argc; what follows them is already in place.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

_BASE = 0x400000
_HEADERS = 64 + 56
_EM_X86_64 = 62
EXEC_FAILED = 127
"""Exit status when ``execve`` fails, as a shell's."""


def stub(words: Sequence[str]) -> bytes:
    """An x86-64 executable that becomes ``words[0]`` with ``words`` and its own arguments after them.

    Raises:
        ValueError: no words, more than fit below the arguments, or a NUL in one of them.
    """
    if not 1 <= len(words) <= 14:
        raise ValueError(f"a stub takes 1 to 14 words, got {len(words)}")
    encoded = [word.encode() for word in words]
    if any(b"\0" in word for word in encoded):
        raise ValueError("a word of a stub holds a NUL byte")
    code_size = len(_code([0] * len(words)))
    addresses, position = [], _BASE + _HEADERS + code_size
    for word in encoded:
        addresses.append(position)
        position += len(word) + 1
    body = _code(addresses) + b"".join(word + b"\0" for word in encoded)
    return _headers(_HEADERS + len(body)) + body


def _code(addresses: Sequence[int]) -> bytes:
    """The instructions; their length depends on the number of addresses only."""
    count = len(addresses)
    code = b"\x48\x8b\x1c\x24"  # mov rbx, [rsp]             argc
    code += b"\x48\x8d\x54\xdc\x10"  # lea rdx, [rsp+rbx*8+16]    envp: behind argv's NULL
    code += b"\x48\x8d\xb4\x24" + struct.pack("<i", 16 - 8 * count)  # lea rsi, [rsp+16-8n]  the new argv
    for number, address in enumerate(addresses):
        code += b"\x48\xb8" + struct.pack("<Q", address)  # mov rax, address
        code += b"\x48\x89\x46" + struct.pack("<b", 8 * number)  # mov [rsi+8i], rax
    code += b"\x48\xbf" + struct.pack("<Q", addresses[0])  # mov rdi, words[0]
    code += b"\xb8" + struct.pack("<I", 59) + b"\x0f\x05"  # mov eax, execve; syscall
    code += b"\xbf" + struct.pack("<I", EXEC_FAILED)  # mov edi, 127
    return code + b"\xb8" + struct.pack("<I", 231) + b"\x0f\x05"  # mov eax, exit_group; syscall


def _headers(size: int) -> bytes:
    """ELF header and the one segment, readable and executable."""
    ident = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    entry = _BASE + _HEADERS
    elf = ident + struct.pack("<HHIQQQIHHHHHH", 2, _EM_X86_64, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    return elf + struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
