# SPDX-License-Identifier: BSD-2-Clause
"""A witness on the wire: every TCP connection that two hosts open, from their packets alone.

A packet socket in the namespace between the two hosts sees each frame that passes. It knows
nothing of connguard, asks no socket table (which a short-lived connection can slip through between
two looks), and counts what it had to drop. Times are the kernel's, of the moment a frame passed,
as nanoseconds of CLOCK_BOOTTIME.
"""

import contextlib
import socket
import struct
import threading
import time

from harness import libc, now_ns

ETH_P_ALL = 3
ETHERTYPE_IPV4, ETHERTYPE_IPV6 = 0x0800, 0x86DD
PROTOCOL_TCP = 6
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10
SO_TIMESTAMPNS = 35
SO_RCVBUFFORCE = 33
SOL_PACKET, PACKET_STATISTICS = 263, 6
CLONE_NEWNET = 0x40000000
HEADERS = 200  # bytes of a frame that hold all of its headers


@contextlib.contextmanager
def inside(namespace):
    """This thread is in the network namespace, for what it opens there."""
    with open("/proc/thread-self/ns/net", "rb") as home, \
            open(f"/run/netns/{namespace}", "rb") as there:
        if libc.setns(there.fileno(), CLONE_NEWNET):
            raise OSError(f"cannot enter {namespace}")
        try:
            yield
        finally:
            libc.setns(home.fileno(), CLONE_NEWNET)


class Connection:
    """One attempt to connect, and what came of it. A moment that has not come is None."""

    def __init__(self, client, server, number, moment):
        self.client = client      # (address, port) of who sent the SYN
        self.server = server
        self.number = number      # initial sequence number of the client
        self.began = moment       # first SYN
        self.syns = 1             # with retransmissions
        self.answer = None        # initial sequence number of the server, from its SYN-ACK
        self.crossed = None       # the same, from a SYN of its own between the same two ports
        self.established = None   # the client's ACK of that: the client has a link, and so has the server
        self.ended = None         # first FIN or RST
        self.end = None           # "FIN" or "RST", and whose

    def __repr__(self):
        def after(moment):
            return "-" if moment is None else f"{(moment - self.began) / 1e6:.0f} ms"
        return (f"<{self.client[0]}:{self.client[1]} to {self.server[0]}:{self.server[1]}, "
                f"{self.syns} SYN, established after {after(self.established)}, "
                f"{self.end or 'ended'} after {after(self.ended)}>")

    @property
    def addresses(self):
        return frozenset((self.client[0], self.server[0]))

    def lifetime(self, until):
        """Seconds between established and the end, or `until` if it has not ended by then."""
        ended = until if self.ended is None else min(self.ended, until)
        return (ended - self.established) / 1e9


class Tap(threading.Thread):
    """Follows the connections to some ports that pass an interface."""

    def __init__(self, namespace, interface, ports, other_than=()):
        super().__init__(daemon=True)
        self.ports = frozenset(ports)
        self.other_than = frozenset(other_than)  # addresses that another witness looks after
        self.lock = threading.Lock()
        self.connections = []
        self.current = {}  # two ends, as a set: their youngest connection
        self.stopping = False
        with inside(namespace):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
            self.socket.bind((interface, ETH_P_ALL))
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 32 << 20)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.settimeout(0.2)
        self.start()

    def run(self):
        while not self.stopping:
            try:
                frame, control, _flags, _address = self.socket.recvmsg(HEADERS, 128)
            except socket.timeout:
                continue
            except OSError:
                return
            seconds, nanoseconds = struct.unpack("@ll", control[0][2])
            moment = seconds * 1_000_000_000 + nanoseconds - time.time_ns() + now_ns()
            self.take(frame, moment)

    def take(self, frame, moment):
        kind, = struct.unpack_from("!H", frame, 12)
        if kind == ETHERTYPE_IPV4 and frame[23] == PROTOCOL_TCP:
            source = socket.inet_ntop(socket.AF_INET, frame[26:30])
            target = socket.inet_ntop(socket.AF_INET, frame[30:34])
            start = 14 + (frame[14] & 0xF) * 4
        elif kind == ETHERTYPE_IPV6 and frame[20] == PROTOCOL_TCP:
            source = socket.inet_ntop(socket.AF_INET6, frame[22:38])
            target = socket.inet_ntop(socket.AF_INET6, frame[38:54])
            start = 54
        else:
            return
        source_port, target_port, sequence, acknowledged, _offset, flags = \
            struct.unpack_from("!HHIIBB", frame, start)
        if source_port not in self.ports and target_port not in self.ports:
            return
        if source in self.other_than or target in self.other_than:
            return
        with self.lock:
            self.follow((source, source_port), (target, target_port), sequence, acknowledged,
                        flags, moment)

    def follow(self, source, target, sequence, acknowledged, flags, moment):
        ends = frozenset((source, target))
        known = self.current.get(ends)
        if flags & (SYN | ACK) == SYN:
            if known and sequence in (known.number, known.crossed):
                known.syns += 1
            elif known and known.client == target and known.crossed is known.answer is known.ended is None:
                known.crossed = sequence
            else:
                known = Connection(source, target, sequence, moment)
                self.current[ends] = known
                self.connections.append(known)
            return
        if known is None:
            return
        from_client = known.client == source
        if flags & SYN and from_client:
            # Who has dialed answers a SYN: each end dials the other from where the other dials it (RFC 9293,
            # 3.5). That is one connection, here of the end that dialed first.
            if known.crossed is not None and known.established is None:
                known.established = moment
        elif flags & SYN:
            known.answer = sequence
        elif flags & (RST | FIN):
            if known.ended is None:
                known.ended = moment
                known.end = (f"{'RST' if flags & RST else 'FIN'} from the "
                             f"{'client' if from_client else 'server'}")
        elif from_client and known.answer is not None and known.established is None \
                and acknowledged == (known.answer + 1) % (1 << 32):
            known.established = moment

    def links(self, since=0):
        """The connections that were established since a moment."""
        with self.lock:
            return [connection for connection in self.connections
                    if connection.established is not None and connection.established >= since]

    def dials(self, since=0):
        """All attempts since a moment."""
        with self.lock:
            return [connection for connection in self.connections if connection.began >= since]

    def dropped(self):
        """Frames that this witness has missed, since the last call."""
        counts = self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        return struct.unpack("=II", counts)[1]

    def stop(self):
        self.stopping = True
        self.join()
        self.socket.close()
