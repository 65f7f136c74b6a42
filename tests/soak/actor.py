# SPDX-License-Identifier: BSD-2-Clause
"""A service's process in the soak: does with its sockets what the driver says, and never waits.

Forked by the driver, in a host's network namespace and cgroup. One JSON object a message on a
SOCK_SEQPACKET channel, {"do": NAME, ...}, is answered by one object, which also has the cookies of
the sockets "closed" since the last answer; descriptors travel beside them. Sockets are named by the
cookies that they tell themselves (of MPTCP, that is not the subflow's), or by their place in the
list. It knows nothing of connguard.
"""

import ctypes
import errno
import json
import os
import signal
import socket
import struct
import sys

CLONE_NEWNET = 0x40000000
PR_SET_PDEATHSIG = 1
SO_COOKIE = 57
TCP_CLOSE = 7
MESSAGE_MAX = 65536
# Sockets of one actor; the oldest makes room.
SOCKETS_MAX = 48
BACKLOG = 64

libc = ctypes.CDLL(None, use_errno=True)


def cookie_of(sock):
    """Signed, as in the guard's documents."""
    return struct.unpack("=q", sock.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8))[0]


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class Actor:
    """The sockets of one process, in the order in which it got them."""

    def __init__(self, channel, port, other_port):
        self.channel = channel
        self.port = port
        self.sockets = {}
        self.listener = None
        # What comes to a port that nobody guards waits in its queue for ever.
        self.other_listener = self.new_listener(other_port)
        self.outgoing = []
        self.closed = []     # cookies, since the last answer

    def keep(self, sock):
        cookie = cookie_of(sock)
        self.sockets[cookie] = sock
        if len(self.sockets) > SOCKETS_MAX:
            oldest = next(iter(self.sockets))
            self.sockets.pop(oldest).close()
            self.closed.append(oldest)
        return cookie

    def pick(self, which):
        """The socket at a fraction of the list, so that a choice can be made without knowing it."""
        if not self.sockets:
            return None
        return list(self.sockets.values())[int(which * len(self.sockets))]

    def drop(self, sock):
        del self.sockets[cookie_of(sock)]

    @staticmethod
    def connect(sock, address, port):
        try:
            sock.connect((address, port))
        except OSError as error:
            return errno.errorcode.get(error.errno, str(error.errno))
        return "success"

    def do_dial(self, address, source, way, keep):
        """A dial that is refused or fails at once is closed, unless it shall be kept."""
        sock = socket.socket(family_of(address), socket.SOCK_STREAM,
                             socket.IPPROTO_MPTCP if way == "mptcp" else 0)
        sock.setblocking(False)
        if source:
            sock.bind((source, 0))
        if way == "fast open":
            try:
                sock.sendto(b"early", socket.MSG_FASTOPEN, (address, self.port))
                outcome = "success"
            except OSError as error:
                outcome = errno.errorcode.get(error.errno, str(error.errno))
        else:
            outcome = self.connect(sock, address, self.port)
        cookie = cookie_of(sock)
        if outcome in ("success", "EINPROGRESS") or keep:
            self.keep(sock)
        else:
            sock.close()
            self.closed.append(cookie)
        return {"errno": outcome, "cookie": cookie}

    def do_redial(self, address, which=0, cookie=None, disconnect=False, port=None):
        """One of the sockets dials (again), in whatever state it is."""
        sock = self.sockets.get(cookie) or self.pick(which)
        if sock is None or sock.family != family_of(address):
            return {}
        if disconnect:
            self.disconnect(sock)
        return {"errno": self.connect(sock, address, port or self.port), "cookie": cookie_of(sock)}

    @staticmethod
    def disconnect(sock):
        """connect(AF_UNSPEC)."""
        libc.connect(sock.fileno(), struct.pack("=H14x", socket.AF_UNSPEC), 16)

    def do_accept(self):
        """Everybody who waits."""
        taken = 0
        while self.listener:
            try:
                sock, _remote = self.listener.accept()
            except OSError as error:
                if error.errno == errno.EAGAIN:
                    break
                continue
            sock.setblocking(False)
            self.keep(sock)
            taken += 1
        return {"accepted": taken}

    @staticmethod
    def new_listener(port):
        listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, BACKLOG)
        listener.bind(("::", port))
        listener.listen(BACKLOG)
        listener.setblocking(False)
        return listener

    def do_listen(self):
        if not self.listener:
            self.listener = self.new_listener(self.port)
        return {}

    def do_deaf(self):
        """Close the listener, with whoever waits there."""
        if self.listener:
            self.listener.close()
        self.listener = None
        return {}

    def do_close(self, which, reset):
        sock = self.pick(which)
        if sock is None:
            return {}
        self.drop(sock)
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.closed.append(cookie_of(sock))
        sock.close()
        return {"cookie": self.closed[-1]}

    def do_shutdown(self, which, whole):
        sock = self.pick(which)
        if sock is None:
            return {}
        try:
            sock.shutdown(socket.SHUT_RDWR if whole else socket.SHUT_WR)
        except OSError as error:
            return {"errno": errno.errorcode.get(error.errno)}
        return {"cookie": cookie_of(sock)}

    def do_disconnect(self, which):
        sock = self.pick(which)
        if sock is None:
            return {}
        self.disconnect(sock)
        return {"cookie": cookie_of(sock)}

    def do_talk(self, which):
        """Say something and hear what was said."""
        sock = self.pick(which)
        if sock is None:
            return {}
        for step in (lambda: sock.send(b"x" * 700), lambda: sock.recv(65536)):
            try:
                step()
            except OSError:
                pass
        return {"cookie": cookie_of(sock)}

    def do_hold(self, which):
        """A child inherits the socket and holds it until its pipe, which the driver gets, ends."""
        sock = self.pick(which)
        if sock is None:
            return {}
        ours, theirs = os.pipe()
        child = os.fork()
        if not child:
            try:
                os.dup2(ours, 0)
                os.dup2(sock.fileno(), 1)
                os.closerange(2, 1024)
                os.read(0, 1)
            finally:
                os._exit(0)
        os.close(ours)
        self.outgoing.append(theirs)
        return {"cookie": cookie_of(sock), "process": child}

    def do_give(self, which):
        """The socket goes to the driver, which passes it on."""
        sock = self.pick(which)
        if sock is None:
            return {}
        self.drop(sock)
        self.outgoing.append(sock.detach())
        return {}

    def do_take(self):
        """A socket that another process had."""
        sock = socket.socket(fileno=self.incoming.pop())
        return {"cookie": self.keep(sock)}

    def do_sweep(self):
        """Close what is not connected and does not try to be."""
        swept = [cookie for cookie, sock in self.sockets.items()
                 if sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSE]
        for cookie in swept:
            self.sockets.pop(cookie).close()
        self.closed += swept
        return {}

    def do_clear(self):
        """Close all; connections are reset."""
        self.do_deaf()
        for sock in self.sockets.values():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
        self.closed += list(self.sockets)
        self.sockets.clear()
        return {}

    def serve(self):
        """Obey until the channel ends."""
        while True:
            message, self.incoming, _flags, _address = socket.recv_fds(self.channel, MESSAGE_MAX, 4)
            if not message:
                return
            request = json.loads(message)
            command = getattr(self, "do_" + request.pop("do"))
            try:
                answer = command(**request)
            except OSError as error:
                answer = {"failed": str(error)}
            answer["closed"] = self.closed
            self.closed = []
            socket.send_fds(self.channel, [json.dumps(answer).encode()], self.outgoing)
            for descriptor in self.outgoing:
                os.close(descriptor)
            self.outgoing = []


def run(channel, cgroup, namespace, name, ports):
    """In a process of its own: become an actor. Does not return."""
    status = 1
    try:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, 0)
        # A holder's end is nobody's business here.
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        own = channel.fileno()
        os.closerange(3, own)
        os.closerange(own + 1, 1024)
        with open(os.path.join(cgroup, "cgroup.procs"), "w", encoding="ascii") as file:
            file.write(str(os.getpid()))
        with open(namespace, encoding="ascii") as file:
            if libc.setns(file.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")
        with open("/proc/self/comm", "w", encoding="ascii") as file:
            file.write(name)
        Actor(channel, *ports).serve()
        status = 0
    except BaseException as error:
        print(f"# actor {name}: {error!r}", file=sys.stderr, flush=True)
    finally:
        os._exit(status)
