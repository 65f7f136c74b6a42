# SPDX-License-Identifier: BSD-2-Clause
"""The laboratory of the namespace tests: hosts, guards, and waiting for what they do.

Owns everything that has to be made and removed: network namespaces, cgroups, workers, guards.
All names begin with "cgt-nt" and the runner's process id; what an earlier runner left behind (its
process is gone) is removed at start, everything else at the end, whatever ends it.

    home  --- switch --- left       home has the guard under test; left and right are peers
                 |  \\--- right
    home  --- delay  --- far        far is DELAY_MS away, in each direction

Peers are addresses, not hosts: left, right and far answer for whole prefixes, and every test takes
addresses that no test has used before, so that one guard serves many tests. "Void" addresses are
routed to nobody: a SYN to them is eaten.

A test never sleeps: it polls for a condition until a deadline, which only ends what hangs: it is far
longer than what it waits for takes. What a test waits for is told when the test has had its time, of
which the runner keeps account. CONNGUARD_TIME_SCALE multiplies all deadlines for slow machines.
"""

import atexit
import collections
import contextlib
import ctypes
import itertools
import json
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
BUILD = os.path.join(TOP, os.environ.get("BUILD", "build"))
CONNGUARD_BUILD = os.path.join(TOP, os.environ.get("CONNGUARD_BUILD", BUILD))
DAEMON = os.path.join(CONNGUARD_BUILD, "connguardd")
CLI = os.path.join(CONNGUARD_BUILD, "connguard")
BPFTOOL = os.environ.get("BPFTOOL", "bpftool")
PINS = "/sys/fs/bpf/connguard"
RUN = "/run/connguard"

TIME_SCALE = float(os.environ.get("CONNGUARD_TIME_SCALE", "1"))
PREFIX = f"cgt-nt{os.getpid()}"
PORT = 24000
OTHER_PORT = 24001
# One way: it must be longer than a process of a busy machine waits for its turn, so that dials cross, and a
# round trip much shorter than the second after which a SYN is retransmitted.
DELAY_MS = round(min(80 * TIME_SCALE, 200))
SECOND = 1_000_000_000
# Seconds, before what a test waits for has failed: longer than anything takes on a busy machine.
PATIENCE = 30


def paced(milliseconds):
    """A setting that a test must not be slower than: longer on slow machines, though waited for."""
    return f"{round(milliseconds * min(TIME_SCALE, 4))}ms"


# Short times, so that a test can see a whole backoff; no periodic check gets in between.
STANDARD = {
    "port": PORT,
    "check_interval": "120s",
    "initial": paced(400),
    "max": paced(1600),
    "min_uptime": "100ms",
    "stable_after": "900ms",
    # A test that is slow shall not find its own links silent.
    "suspect_after": paced(15000),
}
BACKOFF_SECTION = ("initial", "max", "min_uptime", "stable_after", "hold_max", "claim_max", "in_backoff")

# What nftables matches: SYNs that ask, not those that answer; all that is no SYN.
SYNS = "tcp flags & (syn | ack) == syn"
ALL_BUT_SYNS = "tcp flags & syn != syn"

# Hooks at a cgroup and their enum bpf_attach_type, a command of bpf(2) (both linux/bpf.h), and the
# number of bpf(2) itself (asm/unistd.h; x86-64 has its own).
CGROUP_HOOKS = {"ingress": 0, "egress": 1, "sock_ops": 3, "connect4": 10, "connect6": 11, "sock_release": 34}
BPF_PROG_QUERY = 16
SYS_BPF = 321 if os.uname().machine == "x86_64" else 280

# What the guard goes without on this kernel, as `connguard status` names it: a feature's name and
# what its lack means. Filled when the laboratory is set up.
lacks = {}
# Every cause that a guard has counted or told, in any test.
causes_seen = set()
# What happens to the whole guard: whenever a test's listener comes up, or an address of the laboratory.
OF_THE_GUARD = {"service_started", "network_back", "host_resumed"}

libc = ctypes.CDLL(None, use_errno=True)


class Skip(Exception):
    """The test cannot run here; the text says why."""


def now_ns():
    """The guard's clock."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class TooLong(BaseException):
    """The test has had its time. No Exception: nobody but the runner is to catch it."""

    def __init__(self):
        super().__init__()
        self.waits = list(waits)

    def text(self):
        """What the test waited for, the innermost first."""
        return ", while it waits for: ".join(what() if callable(what) else what
                                             for what in reversed(self.waits)) or "nothing that is named"


# What the test waits for at this moment, the innermost last. Texts, or functions that make them.
waits = []


@contextlib.contextmanager
def waiting(what):
    """This is what the test waits for meanwhile."""
    waits.append(what)
    try:
        yield
    finally:
        waits.pop()


def wait_for(condition, what, seconds=PATIENCE):
    """Polls until the condition returns something true; returns that. `what` is for the message."""
    deadline = time.monotonic() + seconds * TIME_SCALE
    pause = 0.002
    with waiting(what):
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > deadline:
                text = what() if callable(what) else what
                raise AssertionError(f"not within {seconds * TIME_SCALE:g} s: {text}")
            time.sleep(pause)
            pause = min(pause * 1.5, 0.05)


def wait_past(moment_ns):
    """Until a moment of the guard's clock is over: for what time alone brings about."""
    with waiting(f"the moment {moment_ns} of the guard's clock"):
        while True:
            left = moment_ns - now_ns()
            if left < 0:
                return
            time.sleep(left / SECOND + 0.001)


def first_line(process, what, seconds=PATIENCE):
    """The first line of a program's output, b"" at its end."""
    with waiting(what):
        if not select.select([process.stdout], [], [], seconds * TIME_SCALE)[0]:
            raise AssertionError(f"not within {seconds * TIME_SCALE:g} s: {what}")
        return process.stdout.readline()


def end_reader(reader, stream):
    """Of a program that is dead: its stream ends, unless another one has it, too."""
    reader.join(5 * TIME_SCALE)
    if not reader.is_alive():
        stream.close()


def wait_end(process, what, seconds=PATIENCE):
    """A program's exit status, when it has ended."""
    with waiting(what):
        try:
            return process.wait(seconds * TIME_SCALE)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"not within {seconds * TIME_SCALE:g} s: {what}") from error


def run(*arguments, check=True, timeout=2 * PATIENCE, **options):
    """A program's (status, output), both streams in one text."""
    with waiting(lambda: f"the end of: {' '.join(arguments)}"):
        done = subprocess.run(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, timeout=timeout * TIME_SCALE, check=False,
                              **options)
    text = done.stdout.decode(errors="replace")
    if check and done.returncode:
        raise AssertionError(f"{' '.join(arguments)} exits {done.returncode}: {text}")
    return done.returncode, text


def die_with_parent(sig=signal.SIGKILL):
    """For preexec_fn: what the runner starts does not outlive it."""
    libc.prctl(1, sig)


def helper(name, fast=False, suite="netns"):
    """Path of a helper program that the Makefile built of NAME.c. `fast`: without sanitizers."""
    for directory in (BUILD, CONNGUARD_BUILD) if fast else (CONNGUARD_BUILD, BUILD):
        path = os.path.join(directory, "tests", suite, name)
        if os.access(path, os.X_OK):
            return path
    raise Skip(f"tests/{suite}/{name} was not built: make build-tests")


def cgroup2_mount():
    """Where cgroup2 is mounted; a mount of the whole hierarchy if there are several."""
    found = []
    with open("/proc/self/mountinfo", encoding="utf-8") as file:
        for line in file:
            fields = line.split()
            if fields[fields.index("-") + 1] == "cgroup2":
                found.append((fields[3] != "/", fields[4]))
    if not found:
        raise Skip("cgroup2 is not mounted")
    return min(found)[1]


def attached_programs(cgroup, attach_type):
    """How many programs are attached to a cgroup (a descriptor) at a hook: bpf(BPF_PROG_QUERY).

    `bpftool cgroup show` would do, but for kernels before 6.0, where that of Debian 12 shows none.
    """
    room = 64
    identifiers = (ctypes.c_uint32 * room)()
    # As large as it has become: Linux 6.18 writes to its last member, `revision`, whatever the size.
    query = ctypes.create_string_buffer(64)
    struct.pack_into("=IIIIQI", query, 0, cgroup, attach_type, 0, 0, ctypes.addressof(identifiers), room)
    if libc.syscall(SYS_BPF, BPF_PROG_QUERY, query, len(query)):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"programs at hook {attach_type}")
    return struct.unpack_from("=I", query, 24)[0]


def differences(before, after):
    """How much each counter grew; those that did."""
    grown = {name: count - before.get(name, 0) for name, count in after.items()}
    return {name: count for name, count in grown.items() if count}


# ---- families ----------------------------------------------------------------------------------


class Family:
    """How a test writes addresses: IPv4, IPv6, or IPv4 through an IPv6 socket at home."""

    def __init__(self, name, listen, home, version):
        self.name = name
        self.listen = listen     # what the service at home listens on
        self.home = home         # where its peers reach it
        self.version = version

    def __repr__(self):
        return self.name


IPV4 = Family("IPv4", "10.77.0.1", "10.77.0.1", 4)
IPV6 = Family("IPv6", "fd77::1", "fd77::1", 6)
MAPPED = Family("v4-mapped", "::", "10.77.0.1", 4)
FAMILIES = (IPV4, IPV6, MAPPED)


class Peer:
    """An address that answers (or not), fresh for one test."""

    def __init__(self, host, address, family):
        self.host = host         # None: void
        self.family = family
        self.address = address   # as the guard writes it, and as its own host binds it
        # What home dials.
        self.dial = f"::ffff:{address}" if family is MAPPED else address
        self.listener = None

    def listen(self, port=PORT):
        """Be up: accept connections on the port."""
        self.listener = self.host("listen", address=self.address, port=port)
        return self.listener

    def knock(self, address=None, port=PORT, **options):
        """Dial home from this address."""
        return self.host("dial", address=address or self.family.home, port=port,
                         source=self.address, **options)


# ---- hosts -------------------------------------------------------------------------------------


class Worker:
    """A worker process in a host. Call it with a command and its arguments."""

    def __init__(self, host, command_name, cgroup=None, namespace=None):
        self.host = host
        self.command_name = command_name
        self.numbers = itertools.count()
        self.asked = {}
        self.answers = {}
        self.condition = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-S", os.path.join(HERE, "worker.py"), cgroup or host.cgroup,
             f"/run/netns/{namespace or host.namespace}", command_name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=die_with_parent)
        self.ready = False
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        with waiting(f"the worker of {host.namespace} starts"), self.condition:
            if not self.condition.wait_for(lambda: self.ready, 2 * PATIENCE * TIME_SCALE):
                raise AssertionError(f"the worker of {host.namespace} does not start")

    @property
    def pid(self):
        return self.process.pid

    def read(self):
        for line in self.process.stdout:
            message = json.loads(line)
            with self.condition:
                if "ready" in message:
                    self.ready = True
                else:
                    self.answers[message["id"]] = message
                self.condition.notify_all()

    def start(self, command, **arguments):
        """Let the worker do it, in a thread of its own; returns a number for finish()."""
        number = next(self.numbers)
        self.asked[number] = (command, arguments)
        line = json.dumps(dict(arguments, id=number, do=command, apart=True))
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()
        return number

    def finish(self, number, seconds=2 * PATIENCE):
        """The result of a started command."""
        def what():
            command, arguments = self.asked[number]
            words = ", ".join(f"{name}={value}" for name, value in arguments.items())
            return f"{self.command_name} ({self.host.namespace}) answers to {command}({words[:400]})"
        with waiting(what), self.condition:
            if not self.condition.wait_for(lambda: number in self.answers, seconds * TIME_SCALE):
                raise AssertionError(f"not within {seconds * TIME_SCALE:g} s: {what()}")
            answer = self.answers.pop(number)
            del self.asked[number]
        if "error" in answer:
            raise AssertionError(f"worker: {answer['error']}")
        return answer["result"]

    def finished(self, number):
        with self.condition:
            return number in self.answers

    def __call__(self, command, **arguments):
        return self.finish(self.start(command, **arguments))

    def kill(self):
        """SIGKILL: everything it had open is closed by the kernel."""
        if self in self.host.extra:
            self.host.extra.remove(self)
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        end_reader(self.reader, self.process.stdout)


class Host:
    """A network namespace with a cgroup and a worker."""

    def __init__(self, lab, name, worker=True):
        self.lab = lab
        self.name = name
        self.namespace = f"{PREFIX}-{name}"
        self.cgroup = os.path.join(lab.cgroups, PREFIX, name)
        self.extra = []
        run("ip", "netns", "add", self.namespace)
        os.makedirs(self.cgroup, exist_ok=True)
        self.ip("link set lo up")
        self.worker = Worker(self, f"cgt-{name}") if worker else None

    @property
    def cgroup_below(self):
        """The cgroup as a configuration file names it."""
        return f"/{PREFIX}/{self.name}"

    def __call__(self, command, **arguments):
        return self.worker(command, **arguments)

    def start(self, command, **arguments):
        return self.worker.start(command, **arguments)

    def finish(self, number, seconds=2 * PATIENCE):
        return self.worker.finish(number, seconds)

    def add_worker(self, command_name="cgt-second", cgroup=None, namespace=None):
        """One more process of this host (or with another cgroup, or namespace), for this test."""
        worker = Worker(self, command_name, cgroup, namespace)
        self.extra.append(worker)
        return worker

    def clear(self):
        """No socket, no process but the worker."""
        for worker in list(self.extra):
            worker.kill()
        if self.worker:
            try:
                self.worker.finish(self.worker.start("clear"), 20)
            except Exception:
                self.renew()
                raise

    def renew(self):
        """Another worker: what this one still did, for a test that is over, ends with it."""
        if self.worker:
            self.worker.kill()
            self.worker = Worker(self, self.worker.command_name)

    def ip(self, *lines):
        """Lines for `ip -batch` in this namespace."""
        done = subprocess.run(["ip", "-n", self.namespace, "-batch", "-"],
                              input="\n".join(lines).encode(), stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, check=False, timeout=2 * PATIENCE * TIME_SCALE)
        if done.returncode:
            raise AssertionError(f"{self.namespace}: ip: {done.stdout.decode()}")

    def sysctl(self, name, value):
        run("ip", "netns", "exec", self.namespace, "sysctl", "-q", f"{name}={value}")

    def inside(self, *arguments):
        """A command line that runs in this namespace, with bpffs in sight."""
        return ["nsenter", f"--net=/run/netns/{self.namespace}", *arguments]

    def snmp(self, protocol, counter):
        """A counter of /proc/net/snmp, such as Tcp ActiveOpens: SYNs for new connections sent.

        Or of /proc/net/netstat, such as TcpExt TCPFastOpenActive."""
        return self("snmp", protocol=protocol, counter=counter)

    def eat(self, hook, match):
        """Drop packets that nftables matches at this hook (input, output), without a word.

        Returns how to stop that. One such rule at a time.
        """
        if shutil.which("nft") is None:
            raise Skip("nft is missing: nothing here can eat a packet")
        run(*self.inside(
            "nft", "add table inet cgt; "
            f"add chain inet cgt {hook} {{ type filter hook {hook} priority 0; }}; "
            f"add rule inet cgt {hook} {match} drop"))
        return lambda: run(*self.inside("nft", "delete", "table", "inet", "cgt"))

    def eat_syns_from(self, address):
        """Drop SYNs that come from this address. Returns how to stop that."""
        word = "ip6" if ":" in address else "ip"
        return self.eat("input", f"{word} saddr {address} {SYNS}")

    def silence(self, *addresses, only=""):
        """Let nothing out from these addresses: their hosts are dead to the others. `only`: a match
        for the packets that do not get out. Returns how to end it."""
        word = "ip6" if ":" in addresses[0] else "ip"
        return self.eat("output", f"{word} saddr {{ {', '.join(addresses)} }} {only}")


# ---- guards ------------------------------------------------------------------------------------


class Events:
    """What `connguard events --follow --json` (or `due`) says, as it comes."""

    def __init__(self, guard, command="events"):
        self.list = []
        self.condition = threading.Condition()
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [CLI, "-n", guard.name, "--json", command, "--follow"], stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=self.errors, preexec_fn=die_with_parent)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            event = json.loads(line)
            causes_seen.add(event.get("cause"))
            with self.condition:
                self.list.append(event)
                self.condition.notify_all()

    def find(self, since=0, **members):
        """The events that came after the first `since` and have these members."""
        with self.condition:
            return [event for event in self.list[since:]
                    if all(event.get(name) == value for name, value in members.items())]

    def wait(self, since=0, seconds=PATIENCE, count=1, **members):
        """The first such event, when `count` of them have come."""
        def what():
            seen = self.find(since, **{k: v for k, v in members.items() if k == "address"})
            return (f"{count} event(s) with {members}; seen: "
                    + (", ".join(event.get("cause", "?") for event in seen) or "none")
                    + ("" if self.process.poll() is None else "; the stream has ended"))
        return wait_for(lambda: len(self.find(since, **members)) >= count
                        and self.find(since, **members), what, seconds)[0]

    def wait_ended(self, seconds=PATIENCE):
        wait_for(lambda: self.process.poll() is not None, "the stream ends", seconds)

    def stop(self):
        self.process.kill()
        self.process.wait()
        end_reader(self.reader, self.process.stdout)
        self.errors.close()


class Guard:
    """A daemon with a configuration of its own, in a host's namespace, for a host's cgroup."""

    numbers = itertools.count(1)

    def __init__(self, lab, host, options, name=None, cgroup=None):
        self.lab = lab
        self.host = host
        self.name = name or f"{PREFIX}-g{next(self.numbers)}"
        self.cgroup = cgroup or host.cgroup_below
        self.directory = tempfile.mkdtemp(prefix=self.name + "-", dir=lab.directory)
        # Words in front of the daemon's command line, and what its environment has beside ours.
        self.wrapper = []
        self.environment = {}
        self.file = os.path.join(self.directory, "guard.conf")
        self.log_path = os.path.join(self.directory, "log")
        self.process = None
        self.events = None
        self.options = {}
        # Why the map need not equal the sockets when the test ends; None: it must.
        self.drifts = None
        self.write(options)

    @property
    def pins(self):
        return os.path.join(PINS, self.name)

    @property
    def socket_path(self):
        return os.path.join(RUN, self.name + ".sock")

    def write(self, options, text=None):
        """Write the configuration file; `text` instead writes just that."""
        self.options = dict(options)
        if text is None:
            sections = {"guard": [f"cgroup = {self.cgroup}"], "backoff": []}
            for name, value in options.items():
                section = "backoff" if name in BACKOFF_SECTION else "guard"
                sections[section].append(f"{name} = {value}")
            text = "".join(f"[{section}]\n" + "\n".join(lines) + "\n"
                           for section, lines in sections.items())
        with open(self.file + ".new", "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(self.file + ".new", self.file)

    def start_only(self, program=DAEMON):
        """Start the daemon without waiting for anything."""
        if not os.access(program, os.X_OK):
            raise Skip(f"{program} was not built")
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.wrapper + self.host.inside(program, "-c", self.file, self.name),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=dict(os.environ, **self.environment),
                preexec_fn=lambda: die_with_parent(signal.SIGTERM))

    def start(self, program=DAEMON):
        """Start the daemon, wait until status is fine, and follow the events."""
        self.start_only(program)
        try:
            wait_for(self.is_up,
                     lambda: f"guard {self.name} is up; {self.cli('status')[1]}\n{self.log()}", 60)
        except AssertionError:
            # Else it would be in force for tests that know nothing of it.
            self.destroy()
            raise
        self.events = Events(self)
        return self

    def wait_answers(self):
        """After start_only(): until the daemon answers, whatever is wrong with the guard."""
        def answers():
            assert self.running(), f"the daemon has ended:\n{self.log()}"
            # Its socket is there a moment before it listens, and one that was killed has left its own.
            with contextlib.suppress(OSError):
                return self.ask("status")
            return None
        wait_for(answers, lambda: f"{self.name} answers:\n{self.log()}")

    def is_up(self):
        if self.process.poll() is not None:
            raise AssertionError(
                f"the daemon exits {self.process.returncode} at its start:\n{self.log()}")
        return os.path.exists(self.socket_path) and self.cli("status")[0] == 0

    def running(self):
        return self.process is not None and self.process.poll() is None

    def log(self, lines=40):
        with contextlib.suppress(OSError):
            with open(self.log_path, encoding="utf-8", errors="replace") as file:
                return "".join(file.readlines()[-lines:])
        return ""

    def wait_log(self, pattern, seconds=PATIENCE):
        """Until the log has a line that matches."""
        return wait_for(lambda: re.search(pattern, self.log(1000)),
                        lambda: f"/{pattern}/ in the log:\n{self.log()}", seconds)

    def signal(self, number):
        self.process.send_signal(number)

    def end(self, number, seconds=PATIENCE):
        """A signal that ends the daemon. Its exit status; negative: the signal itself did it."""
        self.process.send_signal(number)
        try:
            with waiting(f"{self.name} ends by signal {number}"):
                status = self.process.wait(seconds * TIME_SCALE)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"the daemon does not end by signal {number}:\n{self.log()}") \
                from error
        finally:
            if self.events:
                self.events.stop()
                self.events = None
        self.process = None
        return status

    def stop(self):
        """SIGTERM: the daemon takes the guard away. Asserts that nothing is left."""
        status = self.end(signal.SIGTERM)
        assert status == 0, f"after SIGTERM the daemon exits {status}:\n{self.log()}"
        assert not os.path.exists(self.pins), f"{self.pins} is left after SIGTERM"
        assert not os.path.exists(self.socket_path), f"{self.socket_path} is left after SIGTERM"
        wait_for(lambda: not self.attached(), lambda: f"programs stay attached: {self.attached()}")

    def attached(self):
        """Names of the hooks that have a program at the cgroup, once for each program."""
        names = []
        directory = os.open(os.path.join(self.lab.cgroups, self.cgroup.lstrip("/")), os.O_RDONLY)
        try:
            for name, attach_type in CGROUP_HOOKS.items():
                names += [name] * attached_programs(directory, attach_type)
        finally:
            os.close(directory)
        return names

    def destroy(self):
        """Whatever state it is in: nothing of it is left afterwards."""
        if self.events:
            self.events.stop()
            self.events = None
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
        if os.path.exists(self.pins):
            # Removing the pins of links detaches their programs a moment later; this does at once.
            self.cli("unload")
            shutil.rmtree(self.pins, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.unlink(self.socket_path)

    # -- asking --

    def cli(self, *arguments, timeout=2 * PATIENCE):
        """`connguard -n NAME ...`: its (exit status, output), errors included."""
        return run(CLI, "-n", self.name, *arguments, check=False, timeout=timeout)

    def cli_json(self, *arguments):
        """`connguard -n NAME --json ...`: its (exit status, document)."""
        with waiting(lambda: f"the end of: connguard --json {' '.join(arguments)}"):
            done = subprocess.run([CLI, "-n", self.name, "--json", *arguments],
                                  stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.PIPE, timeout=2 * PATIENCE * TIME_SCALE, check=False)
        try:
            return done.returncode, json.loads(done.stdout)
        except ValueError as error:
            raise AssertionError(f"connguard --json {' '.join(arguments)} exits {done.returncode} "
                                 f"with {done.stdout!r} {done.stderr!r}") from error

    def tell(self, *arguments):
        """A command that must succeed."""
        status, text = self.cli(*arguments)
        assert status == 0, f"connguard {' '.join(arguments)} exits {status}: {text}"
        return text

    def ask(self, request, **arguments):
        """The result of a request to the daemon, over its socket."""
        with waiting(lambda: f"{self.name} answers to {request} {arguments or ''}"), \
                socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            # With a timeout it would not wait for a place in the queue of connections.
            sock.connect(self.socket_path)
            sock.settimeout(PATIENCE * TIME_SCALE)
            sock.sendall(json.dumps(dict(arguments, protocol=1, request=request)).encode() + b"\n")
            with sock.makefile("rb") as stream:
                answer = json.loads(stream.readline())
        assert answer["ok"], f"{request}: {answer}"
        return answer["result"]

    def status(self):
        document = self.ask("status")
        for book in document["counters"].values():
            causes_seen.update(book)
        return document

    def counters(self, book="enforced"):
        return self.status()["counters"][book]

    def counters_in_kernel(self):
        """By cause, and `events_lost`, over all processors: also while the daemon sleeps."""
        books = json.loads(run(BPFTOOL, "-j", "map", "dump", "pinned", f"{self.pins}/counters")[1])
        total = collections.Counter()
        for processor in books[0]["formatted"]["values"]:
            total.update({name: count for name, count in processor["value"].items() if isinstance(count, int)})
        return total

    def peer(self, address):
        """The peer's document, None when the guard does not know it."""
        return self.ask("explain", address=address)["peer"]

    def explain(self, address):
        """Exit status and document of `connguard explain`."""
        return self.cli_json("explain", address)

    def peers(self):
        """The documents of all peers, with a daemon and without."""
        if self.running():
            return self.ask("peers")["peers"]
        return self.cli_json("peers")[1]["peers"]

    def state(self, address):
        peer = self.peer(address)
        return peer and peer["state"]

    def wait_state(self, address, state, seconds=PATIENCE):
        wait_for(lambda: self.state(address) == state,
                 lambda: f"{address} is {state}: {self.peer(address)}", seconds)

    def watch(self):
        return Watch(self)


class Watch:
    """What a guard counts and tells from now on."""

    def __init__(self, guard):
        self.guard = guard
        self.since = len(guard.events.list)
        self.before = guard.status()["counters"]

    def grown(self, book="enforced", of_the_guard=False):
        """By how much each counter has grown, others 0; with those OF_THE_GUARD, or without."""
        grown = differences(self.before[book], self.guard.counters(book))
        return collections.Counter({name: count for name, count in grown.items()
                                    if of_the_guard or name not in OF_THE_GUARD})

    def counted(self, book="enforced", **expected):
        """These and no other counters grew, by this much. Waits for what is still on its way.

        Only peer_due is not asked for: peers of earlier tests become due at any time. Of those
        OF_THE_GUARD only what is expected by name.
        """
        def grown():
            return {name: count for name, count in self.grown(book, True).items()
                    if name in expected or name not in OF_THE_GUARD | {"peer_due"}}
        wait_for(lambda: grown() == expected,
                 lambda: f"counters ({book}) grow by {expected}, "
                         f"they grew by {self.grown(book)}")

    def counted_at_least(self, book="enforced", **expected):
        """These counters grew by at least this much."""
        def enough():
            grown = self.grown(book, True)
            return all(grown.get(name, 0) >= count for name, count in expected.items())
        wait_for(enough, lambda: f"counters ({book}) grow by at least {expected}, "
                                 f"they grew by {self.grown(book)}")

    def event(self, peer, cause, seconds=PATIENCE, count=1, **members):
        """The (first) event of this cause about the peer."""
        address = peer.address if isinstance(peer, Peer) else peer
        return self.guard.events.wait(self.since, seconds, count, address=address, cause=cause,
                                      **members)

    def no_event(self, peer, cause, **members):
        found = self.guard.events.find(self.since, address=peer.address, cause=cause, **members)
        assert not found, f"unexpected event: {found[0]}"


# ---- the laboratory ----------------------------------------------------------------------------


class Lab:
    """All hosts, and the guard that the tests share while they want the same configuration."""

    def __init__(self):
        self.cgroups = cgroup2_mount()
        self.directory = tempfile.mkdtemp(prefix=PREFIX + "-")
        # What operators decide on these guards is nobody else's; the daemons and the CLI inherit it.
        os.environ["STATE_DIRECTORY"] = os.path.join(self.directory, "state")
        self.guards = []
        self.shared = None
        self.hosts = []
        self.delay = None
        self.numbers = collections.defaultdict(lambda: itertools.count(1))
        self.test_clean_up = contextlib.ExitStack()

    def set_up_bare(self):
        """Room for hosts, and none yet: for who makes them himself."""
        remove_leftovers(self.cgroups)
        atexit.register(self.tear_down)

    def set_up(self):
        self.set_up_bare()
        self.ask_features()
        switch = self.add_host("switch", worker=False)
        switch.ip("link add br0 type bridge forward_delay 0 mcast_snooping 0", "link set br0 up")
        self.home = self.add_host("home")
        self.left = self.add_host("left")
        self.right = self.add_host("right")
        wire = self.add_host("delay", worker=False)
        wire.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
        self.far = self.add_host("far")
        for number, host in enumerate((self.home, self.left, self.right), 1):
            self.cable(host, "eth0", switch, f"port{number}")
            switch.ip(f"link set port{number} master br0")
            host.ip(f"addr add 10.77.0.{number}/24 dev eth0",
                    f"addr add fd77::{number}/64 dev eth0 nodad")
        for host, interface, address in ((self.home, "eth1", 1), (self.far, "eth0", 2)):
            self.cable(host, interface, wire, host.name)
            host.ip(f"addr add 10.78.0.{address}/24 dev {interface}",
                    f"addr add fd78::{address}/64 dev {interface} nodad")
        # Each of these answers for all addresses of a prefix; home too, towards far.
        for host, number in ((self.left, 82), (self.right, 83), (self.far, 84), (self.home, 86)):
            host.sysctl("net.ipv6.ip_nonlocal_bind", 1)
            host.ip(f"route add local 10.{number}.0.0/16 dev lo",
                    f"route add local fd{number}::/64 dev lo")
        self.home.ip("route add 10.82.0.0/16 via 10.77.0.2", "route add fd82::/64 via fd77::2",
                     "route add 10.83.0.0/16 via 10.77.0.3", "route add fd83::/64 via fd77::3",
                     "route add 10.84.0.0/16 via 10.78.0.2", "route add fd84::/64 via fd78::2")
        self.far.ip("route add 10.86.0.0/16 via 10.78.0.1", "route add fd86::/64 via fd78::1")
        # The void: a neighbour that nobody is.
        self.home.ip("neigh add 10.77.0.99 lladdr 02:00:00:00:00:99 dev eth0 nud permanent",
                     "neigh add fd77::99 lladdr 02:00:00:00:00:99 dev eth0 nud permanent",
                     "route add 10.85.0.0/16 via 10.77.0.99", "route add fd85::/64 via fd77::99")

    def ask_features(self):
        """Load a guard that nobody will meet, and note what it lacks."""
        os.makedirs(os.path.join(self.cgroups, PREFIX, "features"))
        guard = Guard(self, None, {"port": PORT}, cgroup=f"/{PREFIX}/features")
        run(CLI, "-n", guard.name, "-c", guard.file, "load")
        _status, document = guard.cli_json("status")
        guard.tell("unload")
        lacks.update((feature["name"], feature["lack"]) for feature in document["features"]
                     if not feature["available"])

    def add_host(self, name, worker=True):
        host = Host(self, name, worker)
        self.hosts.append(host)
        return host

    @staticmethod
    def cable(host, interface, other, other_interface):
        host.sysctl("net.ipv6.conf.default.accept_dad", 0)
        run("ip", "link", "add", interface, "netns", host.namespace, "type", "veth",
            "peer", other_interface, "netns", other.namespace)
        host.ip(f"link set {interface} up")
        other.ip(f"link set {other_interface} up")

    def need_delay(self):
        """far becomes reachable."""
        if self.delay is None:
            wire = next(host for host in self.hosts if host.name == "delay")
            process = subprocess.Popen(
                wire.inside(helper("delay"), "home", "far", str(DELAY_MS)),
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, preexec_fn=die_with_parent)
            assert first_line(process, "delay starts") == b"ready\n", "delay does not start"
            self.delay = process
            # Both ends learn each other's link address, so that the first SYNs are not slower.
            listener = self.far("listen", address="::", port=OTHER_PORT)
            for address in ("10.78.0.2", "fd78::2"):
                result = self.home("dial", address=address, port=OTHER_PORT)
                assert result["errno"] == "success", f"far is not there: {result}"
                self.home("close", fd=result["fd"], reset=True)
            self.far("close", fd=listener)

    def fresh(self, family=IPV4, host=None):
        """A peer that no test has met: an address of `host` (default: left)."""
        host = host or self.left
        prefix = {"left": 82, "right": 83, "far": 84, "home": 86}[host.name]
        return Peer(host, self.fresh_address(prefix, family), family)

    def void(self, family=IPV4):
        """A peer that is not there: SYNs to it are eaten."""
        return Peer(None, self.fresh_address(85, family), family)

    def fresh_address(self, prefix, family):
        number = next(self.numbers[prefix, family.version])
        if family.version == 6:
            return f"fd{prefix}::{number:x}"
        return f"10.{prefix}.{number // 250}.{number % 250 + 1}"

    # -- guards --

    def guard(self, **options):
        """The shared guard with the standard options and these, which it takes by a reload."""
        wanted = dict(STANDARD, **options)
        if self.shared and not self.shared.running():
            self.retire_shared()
        if not self.shared:
            self.shared = self.new_guard(self.home, wanted).start()
        elif self.shared.options != wanted:
            self.shared.write(wanted)
            self.shared.ask("reload")
        return self.shared

    def own_guard(self, start=True, host=None, standard=True, name=None, cgroup=None, frugal=False,
                  **options):
        """A guard for one test alone. It is destroyed when the test ends, if it is still there.

        `frugal`: a sanitizer keeps little of the memory that the daemon has freed, which would be most of
        what a test of its memory sees.
        """
        self.retire_shared()
        wanted = dict(STANDARD, **options) if standard else options
        guard = self.new_guard(host or self.home, wanted, name, cgroup)
        if frugal:
            guard.environment["ASAN_OPTIONS"] = \
                os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=4"
        self.at_end(guard.destroy)
        return guard.start() if start else guard

    def new_guard(self, host, options, name=None, cgroup=None):
        guard = Guard(self, host, options, name, cgroup)
        self.guards.append(guard)
        return guard

    def retire_shared(self):
        shared, self.shared = self.shared, None
        if shared and shared.running():
            try:
                shared.stop()
            finally:
                shared.destroy()
        elif shared:
            shared.destroy()
            raise AssertionError(f"the daemon had died:\n{shared.log()}")

    def abandon_shared(self):
        """After a failure: what it left in the guard's map is not the next test's fault."""
        shared, self.shared = self.shared, None
        if shared:
            shared.destroy()

    def at_end(self, function, *arguments):
        """Call this when the test is over."""
        self.test_clean_up.callback(function, *arguments)

    def judged(self):
        """The guards in the kernel whose map must equal the sockets."""
        return [guard for guard in self.guards
                if not guard.drifts and os.path.exists(os.path.join(guard.pins, "peers"))]

    def close_sockets(self):
        """Close every socket, end every process that a test started."""
        for host in self.hosts:
            host.clear()

    def clear(self):
        """After each test: close every socket, end what the test started."""
        try:
            self.test_clean_up.close()
        finally:
            self.close_sockets()

    def end_strays(self, before):
        """What a test has left that did not end: all its processes, but those that there were before."""
        for host in self.hosts:
            host.renew()
        end_children(before | {host.worker.pid for host in self.hosts if host.worker}
                     | ({self.delay.pid} if self.delay else set()))

    def tear_down(self):
        atexit.unregister(self.tear_down)
        for guard in self.guards:
            guard.destroy()
        for host in self.hosts:
            for worker in host.extra + [host.worker]:
                if worker and worker.process.poll() is None:
                    worker.kill()
        if self.delay:
            self.delay.kill()
            self.delay.wait()
            self.delay.stdout.close()
        remove_everything(PREFIX, self.cgroups)


# ---- removal -----------------------------------------------------------------------------------


def remove_everything(prefix, cgroups):
    """Namespaces, cgroups, pins, control sockets and files of one runner."""
    for name in sorted(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else []:
        if name.startswith(prefix + "-"):
            for pid in run("ip", "netns", "pids", name, check=False)[1].split():
                with contextlib.suppress(OSError, ValueError):
                    os.kill(int(pid), signal.SIGKILL)
            run("ip", "netns", "delete", name, check=False)
    for directory in (PINS, RUN):
        for name in os.listdir(directory) if os.path.isdir(directory) else []:
            if name.startswith(prefix + "-"):
                path = os.path.join(directory, name)
                if os.path.isdir(path):
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    os.unlink(path)
    for name in os.listdir(tempfile.gettempdir()):
        if name.startswith(prefix + "-"):
            shutil.rmtree(os.path.join(tempfile.gettempdir(), name), ignore_errors=True)
    top = os.path.join(cgroups, prefix)
    for path, _directories, _files in os.walk(top, topdown=False):
        # A killed process leaves its cgroup with a delay.
        with contextlib.suppress(AssertionError):
            wait_for(lambda path=path: remove_directory(path), f"{path} is empty", 3)


def children():
    """Process ids of the children of this process."""
    found = set()
    for task in os.listdir("/proc/self/task"):
        with contextlib.suppress(OSError):
            with open(f"/proc/self/task/{task}/children", encoding="ascii") as file:
                found.update(map(int, file.read().split()))
    return found


def end_children(keep):
    """End all children of this process but those, whoever has forgotten them."""
    for pid in children() - keep:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def remove_directory(path):
    try:
        os.rmdir(path)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def remove_leftovers(cgroups):
    """What runners left whose process is gone."""
    names = []
    for directory in ("/run/netns", PINS, RUN, cgroups, tempfile.gettempdir()):
        if os.path.isdir(directory):
            names += os.listdir(directory)
    for prefix, pid in {match.groups() for name in names
                        for match in [re.match(r"(cgt-nt(\d+))(?:-|$)", name)] if match}:
        if not os.path.exists(f"/proc/{pid}"):
            remove_everything(prefix, cgroups)
