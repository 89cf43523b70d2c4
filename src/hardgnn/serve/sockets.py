"""The listening socket, and the handles that connections need."""

from __future__ import annotations

import ctypes
import resource
import socket
import struct
from contextlib import suppress

from hardgnn.errors import HardGNNError, reason, told

BACKLOG = 2048  # connections that the system keeps until a worker takes them
MOST_HANDLES = 2**16
SO_ATTACH_FILTER = 26
# Classic BPF over the TCP header: load the flags, drop what has SYN, keep the rest.
DROP_SYN = ((0x30, 0, 0, 13), (0x45, 0, 1, 2), (0x06, 0, 0, 0), (0x06, 0, 0, 0xFFFFFFFF))


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one.

    Raises:
        HardGNNError: the port is taken, or the host is none of this machine.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.create_server(address[:2], family=family, backlog=BACKLOG)
        # Accepted sockets inherit it; asyncio sets it only where it knows the protocol, and an answer's second part
        # would wait 40 ms for the first one's acknowledgement.
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        raise HardGNNError(f"cannot listen on {host}:{port} ({told(error)})") from None
    except ValueError as error:  # no name of a host at all
        raise HardGNNError(f"cannot listen on {host!r}: not the name of a host ({reason(error)})") from None
    return found


def stop_new(listening: socket.socket) -> None:
    """Lets no new connection into the queue of a listening socket, so that none is reset when it is emptied and closed.

    Their handshakes are dropped, so that clients try again, and find another service or none. Only Linux can.
    """
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in DROP_SYN))
    with suppress(OSError):
        found = struct.pack("HP", len(DROP_SYN), ctypes.addressof(program))
        listening.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, found)


def raise_handles() -> None:
    """Allows this process as many open files as it may allow itself."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MOST_HANDLES if hard == resource.RLIM_INFINITY else min(hard, MOST_HANDLES)
    if soft != resource.RLIM_INFINITY and soft < most:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
