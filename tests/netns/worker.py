# SPDX-License-Identifier: BSD-2-Clause
"""The process inside a test host: opens real sockets when it is told to.

usage: worker.py CGROUP-DIRECTORY NETNS-FILE COMMAND-NAME

It moves itself into the cgroup and the network namespace, takes the command name as its own (events
show it), says {"ready": PID} and then obeys: one JSON object a line on standard input,
{"id": N, "do": "dial", "apart": false, ...arguments}, is answered by {"id": N, "result": ...} or
{"id": N, "error": text}. With "apart" the command runs in a thread of its own, so that one that
blocks keeps no other waiting. It ends with its standard input. Times are nanoseconds of
CLOCK_BOOTTIME, timeouts are seconds, sockets are named by their descriptor numbers.

It knows sockets and nothing of connguard.
"""

import collections
import ctypes
import errno
import json
import mmap
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
import traceback

CLONE_NEWNET = 0x40000000
SO_COOKIE = 57
TCP_FASTOPEN_CONNECT = 30
TCP_ESTABLISHED = 1
TCP_MD5SIG = 14
# tcpi_rtt, in microseconds, and tcpi_total_retrans, in struct tcp_info (linux/tcp.h).
TCP_INFO_RTT = 68
TCP_INFO_TOTAL_RETRANS = 100
# A SYN is sent again after a second, not earlier (TCP_TIMEOUT_INIT of net/tcp.h); less, for two clocks.
SYN_AGAIN_SECONDS = 0.9
PR_SET_PDEATHSIG = 1

libc = ctypes.CDLL(None, use_errno=True)
sockets = {}
children = {}
threads = {}
output_lock = threading.Lock()


def now_ns():
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def say(message):
    with output_lock:
        sys.stdout.write(json.dumps(message) + "\n")
        sys.stdout.flush()


def keep(sock):
    sockets[sock.fileno()] = sock
    return sock.fileno()


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def endpoint(address, port):
    """As Python takes it: the interface of a link-local address is a number there."""
    if "%" not in address:
        return address, port
    address, interface = address.split("%")
    return address, port, 0, socket.if_nametoindex(interface)


def cookie_of(sock):
    """Signed, as in the guard's documents."""
    return struct.unpack("=q", sock.getsockopt(socket.SOL_SOCKET, SO_COOKIE, 8))[0]


def state_of(sock):
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def resent_of(sock):
    """How many segments the kernel has sent again; 0 where it does not tell, as of MPTCP before Linux 5.16."""
    try:
        information = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_TOTAL_RETRANS + 4)
    except OSError:
        return 0
    return struct.unpack_from("=I", information, TCP_INFO_TOTAL_RETRANS)[0]


def name_of(number):
    return errno.errorcode.get(number, str(number)) if number else "success"


def wait_until(moment_ns):
    """Returns at a moment of CLOCK_BOOTTIME, as exactly as a process can."""
    while moment_ns is not None:
        left = moment_ns - now_ns()
        if left <= 0:
            return
        if left > 3_000_000:
            time.sleep((left - 2_000_000) / 1e9)


def new_socket(address, source=None, source_port=0, reuse=False, mptcp=False):
    sock = socket.socket(family_of(address), socket.SOCK_STREAM,
                         socket.IPPROTO_MPTCP if mptcp else 0)
    try:
        if reuse:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if source is not None:
            sock.bind((source, source_port))
    except OSError:
        sock.close()
        raise
    return sock


def connect_errno(sock, address, port):
    """connect() as C sees it: 0 or an errno. Python's own would wait, and hide EINPROGRESS."""
    try:
        sock.connect(endpoint(address, port))
    except OSError as error:
        return error.errno
    return 0


def do_socket(address, source=None, source_port=0, blocking=True, deferred=False, mptcp=False):
    """A socket; with `deferred` its SYN waits for the first data (TCP_FASTOPEN_CONNECT)."""
    sock = new_socket(address, source, source_port, mptcp=mptcp)
    sock.setblocking(blocking)
    if deferred:
        sock.setsockopt(socket.IPPROTO_TCP, TCP_FASTOPEN_CONNECT, 1)
    return {"fd": keep(sock), "cookie": cookie_of(sock)}


def do_connect(fd, address, port, blocking=True, timeout=40):
    """Dial with a socket that exists. The socket is kept, whatever comes of it.

    `resent`: how often its SYN was sent again. The kernel forgets that of a dial that fails; then it is how
    many SYNs this namespace has sent again meanwhile, none if there was no time for that.
    """
    sock = sockets[fd]
    sock.setblocking(blocking)
    if blocking:
        # A blocking connect() gives up with EINPROGRESS after this time (net/ipv4/af_inet.c).
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO,
                        struct.pack("@ll", int(timeout), int(timeout % 1 * 1e6)))
    resent = do_snmp("TcpExt", "TCPSynRetrans")
    began = now_ns()
    number = connect_errno(sock, address, port)
    ended = now_ns()
    if not number:
        resent = resent_of(sock)
    elif ended - began < SYN_AGAIN_SECONDS * 1e9:
        resent = 0
    else:
        resent = do_snmp("TcpExt", "TCPSynRetrans") - resent
    local = sock.getsockname()
    return {"fd": fd, "errno": name_of(number), "elapsed": (ended - began) / 1e9, "resent": resent,
            "began": began, "ended": ended, "process": os.getpid(),
            "thread": threading.get_native_id(), "cookie": cookie_of(sock),
            "local": [local[0], local[1]]}


def do_dial(address, port, source=None, source_port=0, blocking=True, timeout=40, at=None,
            keep_failed=False, reuse=False, mptcp=False, text=""):
    """Make a socket and dial. A socket whose dial failed is closed, unless it shall be kept. `text`: sent with the
    last ACK of the handshake, which waits for it."""
    sock = new_socket(address, source, source_port, reuse, mptcp)
    fd = keep(sock)
    if text:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
    wait_until(at)
    result = do_connect(fd, address, port, blocking, timeout)
    if text and result["errno"] == "success":
        do_send(fd, text)
    if result["errno"] not in ("success", "EINPROGRESS") and not keep_failed:
        do_close(fd)
        result["fd"] = None
    return result


def do_volley(dials):
    """Start many dials, one right after the other; each has the arguments of a `dial`."""
    return [do_dial(blocking=False, **dial) for dial in dials]


def do_settle(fd, timeout):
    """Wait as poll() programs do until a pending dial has an outcome. null: none in time."""
    sock = sockets[fd]
    poller = select.poll()
    poller.register(fd, select.POLLOUT)
    if not poller.poll(timeout * 1000):
        return None
    return {"errno": name_of(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)),
            "state": state_of(sock), "resent": resent_of(sock), "at": now_ns()}


def do_become(user):
    """Another user, without privileges, from now on."""
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)


def do_listen(address, port, backlog=256, mptcp=False, shared=False, fast_open=0, ipv6_only=False,
              interface=None):
    """Listen; on "::" for both families, or one. `shared`: beside others on the same port. `fast_open`:

    handshakes whose data is taken with the SYN, at a time. `interface`: for what comes by it."""
    sock = socket.socket(family_of(address), socket.SOCK_STREAM,
                         socket.IPPROTO_MPTCP if mptcp else 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if shared:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if fast_open:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, fast_open)
    if address == "::":
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(ipv6_only))
    if interface:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
    try:
        sock.bind(endpoint(address, port))
        sock.listen(backlog)
    except OSError:
        sock.close()
        raise
    sock.setblocking(False)
    return keep(sock)


def do_accept(fd, timeout):
    """null: nobody came in time."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    if not poller.poll(timeout * 1000):
        return None
    sock, remote = sockets[fd].accept()
    sock.setblocking(True)
    return {"fd": keep(sock), "remote": [remote[0], remote[1]], "cookie": cookie_of(sock),
            "at": now_ns()}


def do_shut(fd):
    """Listen no longer, and keep the socket."""
    sockets[fd].shutdown(socket.SHUT_RDWR)


def do_close(fd, reset=False):
    sock = sockets.pop(fd)
    if reset:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def do_shutdown(fd, whole=False):
    sockets[fd].shutdown(socket.SHUT_RDWR if whole else socket.SHUT_WR)


def do_send(fd, text):
    return sockets[fd].send(text.encode())


def do_receive(fd, timeout):
    """Text, "" at the end of the stream, an errno by name, or null: nothing in time."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    if not poller.poll(timeout * 1000):
        return None
    try:
        return sockets[fd].recv(4096).decode()
    except OSError as error:
        return name_of(error.errno)


def do_keepalive(fd):
    """How the socket would notice that the other end is dead; times in seconds."""
    def tcp(option):
        return sockets[fd].getsockopt(socket.IPPROTO_TCP, option)
    return {"on": bool(sockets[fd].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)),
            "idle": tcp(socket.TCP_KEEPIDLE), "interval": tcp(socket.TCP_KEEPINTVL),
            "probes": tcp(socket.TCP_KEEPCNT), "user_timeout": tcp(socket.TCP_USER_TIMEOUT) / 1000}


def do_set_keepalive(fd, on=None, idle=None, interval=None, probes=None, user_timeout=None):
    """What a service sets of do_keepalive(); null: left as it is."""
    sock = sockets[fd]
    if on is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, on)
    for option, value in ((socket.TCP_KEEPIDLE, idle), (socket.TCP_KEEPINTVL, interval),
                          (socket.TCP_KEEPCNT, probes),
                          (socket.TCP_USER_TIMEOUT, user_timeout and user_timeout * 1000)):
        if value is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


def do_sign(fd, remote, key):
    """Let the socket sign its segments to this host (TCP MD5, RFC 2385), and expect it of them."""
    if family_of(remote) == socket.AF_INET:
        address = struct.pack("=HH4s120x", socket.AF_INET, 0, socket.inet_aton(remote))
    else:
        address = struct.pack("=HHI16s104x", socket.AF_INET6, 0, 0,
                              socket.inet_pton(socket.AF_INET6, remote))
    sockets[fd].setsockopt(socket.IPPROTO_TCP, TCP_MD5SIG,
                           address + struct.pack("=BBHI80s", 0, 0, len(key), 0, key.encode()))


def do_snmp(protocol, counter):
    """A counter of /proc/net/snmp, or of netstat, whose protocols end in Ext."""
    name = "netstat" if protocol.endswith("Ext") else "snmp"
    with open(f"/proc/thread-self/net/{name}", encoding="ascii") as file:
        lines = [line.split() for line in file if line.startswith(protocol + ":")]
    return int(lines[1][lines[0].index(counter)])


def do_state(fd):
    return state_of(sockets[fd])


def do_round_trip(fd):
    """In seconds, as TCP has smoothed it."""
    information = sockets[fd].getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_RTT + 4)
    return struct.unpack_from("=I", information, TCP_INFO_RTT)[0] / 1e6


def do_resent(fd):
    return resent_of(sockets[fd])


def do_disconnect(fd):
    """connect(AF_UNSPEC): the socket is free for another dial."""
    address = struct.pack("=H14x", socket.AF_UNSPEC)
    if libc.connect(fd, address, len(address)):
        return name_of(ctypes.get_errno())
    return "success"


def do_fast_open(address, port, text, source=None, blocking=True):
    """Dial by sending (TCP Fast Open). The socket is kept."""
    sock = new_socket(address, source)
    sock.setblocking(blocking)
    try:
        sock.sendto(text.encode(), socket.MSG_FASTOPEN, (address, port))
    except OSError as error:
        return {"fd": keep(sock), "errno": name_of(error.errno), "cookie": cookie_of(sock)}
    return {"fd": keep(sock), "errno": "success", "cookie": cookie_of(sock),
            "local": list(sock.getsockname()[:2])}


def do_stray(source, address, port, flags):
    """Send a segment that belongs to no connection (IPv4), with these flags of TCP's header."""
    header = struct.pack("!HHIIBBHHH", 1, port, 1, 1, 5 << 4, flags, 65535, 0, 0)
    covered = socket.inet_aton(source) + socket.inet_aton(address) + \
        struct.pack("!HH", socket.IPPROTO_TCP, len(header)) + header
    total = sum(struct.unpack(f"!{len(covered) // 2}H", covered))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as sock:
        sock.bind((source, 0))
        sock.sendto(header[:16] + struct.pack("!H", ~total & 0xffff) + header[18:], (address, 0))


def do_udp(address, port):
    """UDP connect() and a datagram."""
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as sock:
        number = connect_errno(sock, address, port)
        if not number:
            sock.send(b"datagram")
    return name_of(number)


def die_with_parent():
    """For preexec_fn. The parent is a thread, to the kernel: for children of the main one."""
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def do_inherit(fd, user=None):
    """Another process (of another user) inherits the socket, as over fork(), and holds it. Its process id."""
    child = subprocess.Popen(["sleep", "3600"], pass_fds=[fd], preexec_fn=die_with_parent, user=user)
    children[child.pid] = child
    return child.pid


def do_fd_of(cookie):
    """The descriptor of a socket that another command is busy with."""
    return next(fd for fd, sock in list(sockets.items()) if cookie_of(sock) == cookie)


def do_kill_dialers(addresses, port, rounds, seed):
    """Child processes that dial as fast as they can are killed at random moments.

    They dial in every way: blocking or not, abandoned, closed, reset, disconnected and used again.
    Returns how many dials they have made, as they counted in shared memory.
    """
    choose = random.Random(seed)
    counter = mmap.mmap(-1, mmap.PAGESIZE)
    for number in range(rounds):
        child_seed, pause = choose.random(), choose.random() * 0.004
        child = os.fork()
        if not child:
            try:
                dial_for_ever(random.Random(child_seed), addresses, port, counter)
            finally:
                os._exit(1)
        # Each has time to begin; then it is cut off at any point.
        while struct.unpack("=Q", counter[:8])[0] < number:
            time.sleep(0.0001)
        time.sleep(pause)
        os.kill(child, signal.SIGKILL)
        _pid, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            raise RuntimeError("a dialer ended by itself")
    return struct.unpack("=Q", counter[:8])[0]


def dial_for_ever(choose, addresses, port, counter):
    held = []
    dials = struct.unpack("=Q", counter[:8])[0]
    while True:
        address = choose.choice(addresses)
        again = [sock for sock in held if sock.family == family_of(address)]
        if again and choose.random() < 0.3:
            sock = choose.choice(again)
            libc.connect(sock.fileno(), struct.pack("=H14x", socket.AF_UNSPEC), 16)
        else:
            sock = socket.socket(family_of(address), socket.SOCK_STREAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("@ll", 0, 2000))
            held.append(sock)
        sock.setblocking(choose.random() < 0.5)
        dials += 1
        counter[:8] = struct.pack("=Q", dials)
        connect_errno(sock, address, port)
        if len(held) > 10 or choose.random() < 0.3:
            victim = held.pop(choose.randrange(len(held)))
            if choose.random() < 0.5:
                victim.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            victim.close()


HOLDER = """
import socket, sys
channel = socket.socket(fileno=0)
message, descriptors, flags, address = socket.recv_fds(channel, 1, 1)
channel.send(b'held')
channel.recv(1)
"""


def do_give(fd):
    """Pass the socket to another process over a UNIX socket and close it here. Its process id."""
    here, there = socket.socketpair()
    child = subprocess.Popen([sys.executable, "-S", "-c", HOLDER], stdin=there,
                             preexec_fn=die_with_parent)
    there.close()
    socket.send_fds(here, [b"x"], [fd])
    if here.recv(4) != b"held":
        raise RuntimeError("the other process did not take the socket")
    child.channel = here
    children[child.pid] = child
    do_close(fd)
    return child.pid


def do_end(process):
    child = children.pop(process)
    child.kill()
    child.wait()


def do_run(arguments, timeout, environment=None):
    """Run a program here: in this cgroup and network namespace."""
    done = subprocess.run(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=timeout, check=False,
                          env=dict(os.environ, **(environment or {})))
    return {"status": done.returncode, "stdout": done.stdout.decode(errors="replace"),
            "stderr": done.stderr.decode(errors="replace")}


def do_storm(address, port, dials, at):
    """Many threads dial one address at one moment. What each got."""
    results = [None] * dials
    gate = threading.Barrier(dials)

    def one(index):
        sock = new_socket(address)
        keep(sock)
        gate.wait()
        wait_until(at)
        results[index] = name_of(connect_errno(sock, address, port))

    crowd = [threading.Thread(target=one, args=(i,)) for i in range(dials)]
    for thread in crowd:
        thread.start()
    for thread in crowd:
        thread.join()
    return results


class Chat(threading.Thread):
    """Sends a byte now and then, and reads what comes: the link shows life."""

    def __init__(self, sock, interval):
        super().__init__(daemon=True)
        self.sock = sock
        self.interval = interval
        self.stopping = threading.Event()

    def run(self):
        while not self.stopping.wait(self.interval):
            try:
                self.sock.send(b".", socket.MSG_DONTWAIT)
                self.sock.recv(4096, socket.MSG_DONTWAIT)
            except BlockingIOError:
                pass
            except OSError:
                return


def do_chat(fd, interval=0.1):
    chat = Chat(sockets[fd], interval)
    chat.start()
    threads[chat.native_id] = chat


class Node(threading.Thread):
    """A small service: accepts all and dials once each, and notes each link its application sees.

    `seen` has, by the address of the other end, a list of [direction, opened, closed or null];
    `dials` has the outcome of each dial, null while there is none, `resent` how often the SYN of one that
    became a link was sent again.
    """

    def __init__(self, listener, dials, port, at):
        super().__init__(daemon=True)
        self.listener = listener
        self.pairs = dials
        self.port = port
        self.at = at
        self.stopping = threading.Event()
        self.seen = collections.defaultdict(list)
        self.dials = {address: None for _source, address in dials}
        self.resent = {}
        self.lock = threading.Lock()

    def opened(self, key, direction, sock, poller, links):
        record = [direction, now_ns(), None]
        with self.lock:
            self.seen[key].append(record)
        links[sock.fileno()] = record
        poller.modify(sock, select.POLLIN)

    def run(self):
        poller = select.poll()
        pending, links, mine = {}, {}, {}
        poller.register(self.listener, select.POLLIN)
        prepared = []
        for source, address in self.pairs:
            sock = new_socket(address, source)
            sock.setblocking(False)
            prepared.append((sock, address))
            mine[sock.fileno()] = sock
        wait_until(self.at)
        for sock, address in prepared:
            number = connect_errno(sock, address, self.port)
            if number in (0, errno.EINPROGRESS):
                pending[sock.fileno()] = address
                poller.register(sock, select.POLLOUT)
            else:
                with self.lock:
                    self.dials[address] = name_of(number)
        while not self.stopping.is_set():
            for fd, _events in poller.poll(50):
                if fd == self.listener.fileno():
                    self.accept_all(poller, links, mine)
                elif fd in pending:
                    sock, address = mine[fd], pending.pop(fd)
                    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    with self.lock:
                        self.dials[address] = name_of(number)
                        if not number:
                            self.resent[address] = resent_of(sock)
                    if number:
                        poller.unregister(fd)
                        mine.pop(fd).close()
                    else:
                        self.opened(address, "outbound", sock, poller, links)
                else:
                    self.read(fd, poller, links, mine)
        for sock in mine.values():
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()

    def accept_all(self, poller, links, mine):
        while True:
            try:
                sock, remote = self.listener.accept()
            except BlockingIOError:
                return
            except OSError:
                continue
            mine[sock.fileno()] = sock
            poller.register(sock, 0)
            address = remote[0][7:] if remote[0].startswith("::ffff:") else remote[0]
            self.opened(address, "inbound", sock, poller, links)

    def read(self, fd, poller, links, mine):
        try:
            data = mine[fd].recv(4096)
        except OSError:
            data = b""
        if not data:
            links.pop(fd)[2] = now_ns()
            poller.unregister(fd)
            mine.pop(fd).close()

    def report(self):
        with self.lock:
            return {"seen": {key: list(records) for key, records in self.seen.items()},
                    "dials": dict(self.dials), "resent": dict(self.resent)}


def do_node(listener, port, dials=(), at=None):
    node = Node(sockets[listener], dials, port, at)
    node.start()
    threads[node.native_id] = node
    return node.native_id


def do_node_report(thread):
    return threads[thread].report()


class PickyNode(threading.Thread):
    """A service that takes a peer that dials while it dials itself for a duplicate, and hangs up on it.

    It dials its peer until it has a session with it, PAUSE seconds after each failure. `dials` counts its
    dials, `refused` whom it has hung up on, `lost` sessions that have ended.
    """

    PAUSE = 1

    def __init__(self, address, peer, port, at):
        super().__init__(daemon=True)
        self.address, self.peer, self.port = address, peer, port
        self.next_dial = at
        self.stopping = threading.Event()
        self.session, self.dialing = None, None
        self.counts = {"dials": 0, "refused": 0, "lost": 0}
        self.listener = socket.socket(family_of(address), socket.SOCK_STREAM)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind((address, port))
        self.listener.listen()
        self.listener.setblocking(False)

    def run(self):
        # Unlike poll() it tells of what has happened in the order in which it has.
        with select.epoll() as events:
            events.register(self.listener, select.EPOLLIN)
            while not self.stopping.is_set():
                left = 0.05 if self.session or self.dialing else (self.next_dial - now_ns()) / 1e9
                for fd, _what in events.poll(max(0, min(left, 0.05))):
                    self.on_event(fd, events)
                if not self.session and not self.dialing and now_ns() >= self.next_dial:
                    self.dial(events)
        for sock in (self.listener, self.session, self.dialing):
            if sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                sock.close()

    def again(self):
        self.next_dial = now_ns() + self.PAUSE * 1_000_000_000

    def dial(self, events):
        self.counts["dials"] += 1
        sock = new_socket(self.peer, self.address)
        sock.setblocking(False)
        if connect_errno(sock, self.peer, self.port) != errno.EINPROGRESS:
            sock.close()
            self.again()
            return
        self.dialing = sock
        events.register(sock, select.EPOLLOUT)

    def on_event(self, fd, events):
        if fd == self.listener.fileno():
            try:
                sock = self.listener.accept()[0]
            except OSError:
                return
            if self.session or self.dialing:
                self.counts["refused"] += 1
                sock.close()
                return
            self.session = sock
            events.register(sock, select.EPOLLIN)
        elif self.dialing and fd == self.dialing.fileno():
            sock, self.dialing = self.dialing, None
            if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or self.session:
                sock.close()
                self.again()
                return
            self.session = sock
            events.modify(sock, select.EPOLLIN)
        elif self.session and fd == self.session.fileno():
            try:
                data = self.session.recv(4096)
            except OSError:
                data = b""
            if not data:
                self.session.close()
                self.session = None
                self.counts["lost"] += 1
                self.again()


def do_picky_nodes(pairs, port, at):
    """A PickyNode for each pair of addresses, its own and its peer's."""
    nodes = [PickyNode(address, peer, port, at) for address, peer in pairs]
    for node in nodes:
        node.start()
        threads[node.native_id] = node
    return [node.native_id for node in nodes]


def do_picky_report(nodes):
    return [dict(threads[node].counts, session=threads[node].session is not None) for node in nodes]


class Hammer(threading.Thread):
    """An application that dials again and again: each time it waits so long, gives up, and dials anew. With
    a program it is that one which dials, in a process for each dial."""

    def __init__(self, address, port, wait, program):
        super().__init__(daemon=True)
        self.address, self.port, self.wait, self.program = address, port, wait, program
        self.stopping = threading.Event()
        self.dials = 0

    def run(self):
        while not self.stopping.is_set():
            self.dials += 1
            if self.program:
                # Its own end, or ours, is the end of its dial.
                with subprocess.Popen([self.program, "poll", self.address, str(self.port)],
                                      stdout=subprocess.DEVNULL, preexec_fn=die_with_parent) as process:
                    while process.poll() is None and not self.stopping.wait(0.02):
                        pass
                    process.kill()
            else:
                self.dial()
            self.stopping.wait(0.005)

    def dial(self):
        sock = new_socket(self.address)
        sock.setblocking(False)
        if connect_errno(sock, self.address, self.port) == errno.EINPROGRESS:
            self.stopping.wait(self.wait)
        sock.close()


def do_hammer(address, port, wait=0.2, count=1, program=None):
    """So many applications at once. Returns what do_hammered() wants."""
    hammers = [Hammer(address, port, wait, program) for _ in range(count)]
    for hammer in hammers:
        hammer.start()
        threads[hammer.native_id] = hammer
    return [hammer.native_id for hammer in hammers]


def do_hammered(hammers):
    """End them. How many dials they have made."""
    for number in hammers:
        threads[number].stopping.set()
    made = 0
    for number in hammers:
        hammer = threads.pop(number)
        hammer.join()
        made += hammer.dials
    return made


class Witness(threading.Thread):
    """Sees each SYN without an ACK that leaves this host or comes to it, at its interfaces.

    `syns` has [time, what, source, source port, destination, destination port, number]; `what` is "out" or
    "in". Times are the kernel's.
    """

    SO_TIMESTAMPNS = 35
    ALL_PROTOCOLS = 3
    PACKET_OUTGOING = 4

    def __init__(self):
        super().__init__(daemon=True)
        self.stopping = threading.Event()
        self.syns = []
        self.sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(self.ALL_PROTOCOLS))
        self.sock.setsockopt(socket.SOL_SOCKET, self.SO_TIMESTAMPNS, 1)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.sock.settimeout(0.05)
        # From the clock of the time stamps to ours; of some readings the one that took the least time.
        self.offset = min((self.read_offset() for _ in range(20)))[1]

    @staticmethod
    def read_offset():
        before = now_ns()
        wall = time.clock_gettime_ns(time.CLOCK_REALTIME)
        after = now_ns()
        return after - before, (before + after) // 2 - wall

    def run(self):
        while not self.stopping.is_set():
            try:
                data, controls, _flags, origin = self.sock.recvmsg(256, 64)
            except TimeoutError:
                continue
            syn = self.syn_of(data)
            if syn is None:
                continue
            seconds, nanoseconds = struct.unpack("=qq", controls[0][2][:16])
            self.syns.append([seconds * 1_000_000_000 + nanoseconds + self.offset,
                              "out" if origin[2] == self.PACKET_OUTGOING else "in", *syn])
        self.sock.close()

    @staticmethod
    def syn_of(data):
        """What the record has of it, or None."""
        if data[:1] and data[0] >> 4 == 4 and data[9] == socket.IPPROTO_TCP:
            family, source, destination, tcp = socket.AF_INET, data[12:16], data[16:20], data[data[0] % 16 * 4:]
        elif data[:1] and data[0] >> 4 == 6 and data[6] == socket.IPPROTO_TCP:
            family, source, destination, tcp = socket.AF_INET6, data[8:24], data[24:40], data[40:]
        else:
            return None
        if len(tcp) < 20 or tcp[13] & 0x12 != 0x02:
            return None
        source_port, destination_port, number = struct.unpack_from("!HHI", tcp)
        return (socket.inet_ntop(family, source), source_port,
                socket.inet_ntop(family, destination), destination_port, number)


def do_witness():
    witness = Witness()
    witness.start()
    threads[witness.native_id] = witness
    return witness.native_id


def do_witnessed(thread, address):
    """The SYNs to this address that have left."""
    return [{"at": syn[0], "source_port": syn[3], "port": syn[5], "number": syn[6]}
            for syn in list(threads[thread].syns) if syn[1] == "out" and syn[4] == address]


def do_clear():
    """End and close everything: as if freshly started. Connections are reset."""
    for thread in list(threads.values()):
        thread.stopping.set()
    for thread in list(threads.values()):
        thread.join()
    threads.clear()
    for process in list(children):
        do_end(process)
    for fd in list(sockets):
        try:
            do_close(fd, reset=True)
        except OSError:
            pass


def obey(request):
    number = request.pop("id")
    command = globals()["do_" + request.pop("do")]
    try:
        say({"id": number, "result": command(**request)})
    except OSError as error:
        say({"id": number, "error": f"{name_of(error.errno)}: {error}"})
    except Exception:
        say({"id": number, "error": traceback.format_exc()})


def main():
    cgroup, netns, command_name = sys.argv[1:]
    with open(os.path.join(cgroup, "cgroup.procs"), "w", encoding="ascii") as file:
        file.write(str(os.getpid()))
    with open(netns, encoding="ascii") as file:
        if libc.setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    with open("/proc/self/comm", "wb") as file:
        file.write(os.fsencode(command_name))
    say({"ready": os.getpid()})
    for line in sys.stdin:
        request = json.loads(line)
        # Children die with the thread that made them.
        if request.pop("apart", False) and request["do"] not in ("inherit", "give"):
            threading.Thread(target=obey, args=(request,), daemon=True).start()
        else:
            obey(request)
    do_clear()


if __name__ == "__main__":
    main()
