"""Sockets and memory of a server, with all processes that it has started."""

import socket
import struct
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

_LISTENS = "0A"
_ACCEPTS = 0x10000
"""Flag of a socket of the file system that takes connections."""


class Listening(NamedTuple):
    """What the processes of a server listen to.

    Attributes:
        tcp: Addresses and ports.
        udp: Addresses and ports that take datagrams.
        files: Sockets of the file system.
    """

    tcp: set[tuple[str, int]]
    udp: set[tuple[str, int]]
    files: set[Path]


def listening_of(server: str) -> Listening:
    """What a server at an address listens to, with every process it has started."""
    pids = processes_of(server)
    inodes = {inode for pid in pids for inode in _inodes(pid)}
    tcp, udp = (
        {
            _address(fields[1])
            for name in (kind, f"{kind}6")
            for fields in _lines(Path("/proc/net") / name)
            if fields[9] in inodes and (kind == "udp" or fields[3] == _LISTENS)
        }
        for kind in ("tcp", "udp")
    )
    files = {
        Path(fields[7])
        for fields in _lines(Path("/proc/net/unix"))
        if len(fields) > 7 and fields[6] in inodes and int(fields[3], 16) & _ACCEPTS
    }
    return Listening(tcp, udp, files)


def processes_of(server: str) -> set[int]:
    """Processes whose command names the port of an address, and all their children."""
    port, parents, pids = server.rpartition(":")[2].encode(), dict[int, int](), set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            stat = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(folder.name)] = int(stat[1])
        if port in words:
            pids.add(int(folder.name))
    while children := {pid for pid, of in parents.items() if of in pids} - pids:
        pids |= children
    return pids


def peak_bytes(server: str) -> int:
    """The largest resident size that a process of a server ever had."""
    peaks = []
    for pid in processes_of(server):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        facts = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        peaks.append(int(facts.get("VmHWM", "0 kB").split()[0]) * 1024)
    assert len(peaks) > 1
    return max(peaks)


def _inodes(pid: int) -> Iterator[str]:
    for link in Path(f"/proc/{pid}/fd").glob("*"):
        try:
            target = str(link.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            yield target[len("socket:[") : -1]


def _lines(path: Path) -> Iterator[list[str]]:
    for line in path.read_text().splitlines()[1:]:
        yield line.split()


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.partition(":")
    words = [host[i : i + 8] for i in range(0, len(host), 8)]
    packed = b"".join(struct.pack("=I", int(word, 16)) for word in words)
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, packed), int(port, 16)


def are_private(files: Collection[Path]) -> bool:
    """Whether no other user may connect: mode 0600 in a folder of mode 0700."""
    return all(
        file.stat().st_mode & 0o777 == 0o600
        and file.parent.stat().st_mode & 0o777 == 0o700
        for file in files
    )
