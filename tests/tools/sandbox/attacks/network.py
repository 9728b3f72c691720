"""What could be reached over a socket."""

from __future__ import annotations

from herdsman.tools.sandbox.attack import Attack

NETWORK = (
    Attack(
        "network",
        "the world",
        """
import socket
attempt("connect", lambda: socket.create_connection(("1.1.1.1", 53), 1))
def datagram():
    link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    link.connect(("1.1.1.1", 53))
    link.send(b"x")
attempt("datagram", datagram)
attempt("IPv6", lambda: socket.create_connection(("2606:4700:4700::1111", 53), 1))
""",
    ),
    Attack(
        "network",
        "names",
        """
import socket
attempt("lookup", lambda: socket.getaddrinfo("example.com", 80))
""",
    ),
    Attack(
        "network",
        "a socket file of the host",
        """
import socket
attempt("connect", lambda: socket.socket(socket.AF_UNIX).connect("$folder/socket"))
""",
    ),
    Attack(
        "network",
        "kinds of socket",
        """
import socket
for family in (3, 4, 5, 9, 16, 17, 21, 29, 30, 31, 38, 40, 41, 44):
    kind = socket.SOCK_RAW if family in (16, 17) else socket.SOCK_DGRAM
    attempt("family %d" % family, lambda: socket.socket(family, kind))
    attempt("stream %d" % family, lambda: socket.socket(family, socket.SOCK_STREAM))
attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
""",
    ),
    Attack(
        "network",
        "cards",
        """
names = {line.split(":")[0].strip() for line in open("/proc/net/dev") if ":" in line}
print("BREACH" if names - {"lo"} else "held", names)
""",
    ),
)
