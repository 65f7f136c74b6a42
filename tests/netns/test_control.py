# SPDX-License-Identifier: BSD-2-Clause
"""The control socket: who may, what is answered to nonsense, limits."""

import grp
import json
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time

from harness import PATIENCE, PORT, TIME_SCALE, Skip, die_with_parent, first_line, run, wait_for, waiting
from prober import Prober
from registry import each, test
from steps import assert_dial_refused, fail_dial, link_out

# Of include/connguard/protocol.h.
REQUEST_MAX = 4096
REQUEST_SECONDS = 10
CLIENTS_MAX = 64
READERS_MAX = 48
UNREAD_MAX = 64 * 1024 * 1024
# What nobody keeps from its turn is not later than this on any machine.
LATE_SECONDS = 10
NOBODY = 65534
SOMEBODY = 65533
# A number that no group of a usual machine has.
GROUP = 64123

# Talks to the socket as another user would: prints the answer.
CLIENT = """
import json, socket, sys
sock = socket.socket(socket.AF_UNIX)
try:
    sock.connect(sys.argv[1])
except PermissionError:
    print(json.dumps({"denied": True}))
    sys.exit()
sock.settimeout(60)
try:
    sock.sendall(sys.argv[2].encode() + b"\\n")
except BrokenPipeError:
    pass
print(sock.makefile().readline())
"""


class Client:
    """A raw connection to the daemon."""

    def __init__(self, lab, guard):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(guard.socket_path)
        self.sock.settimeout(PATIENCE * TIME_SCALE)
        self.stream = self.sock.makefile("rb")
        lab.at_end(self.close)

    def close(self):
        self.stream.close()
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

    def answer(self):
        """The next line, None at the end of the stream."""
        try:
            with waiting("the daemon's answer, or its end of the stream"):
                line = self.stream.readline()
        except ConnectionResetError:
            return None
        return json.loads(line) if line else None

    def ask(self, data):
        try:
            self.send(data + b"\n")
        except BrokenPipeError:
            # It has hung up; why is there to be read.
            pass
        return self.answer()


def request(name, **arguments):
    return json.dumps(dict(arguments, protocol=1, request=name))


def as_user(guard, text, user=NOBODY, group=NOBODY):
    """What a process of this user and group gets for a request."""
    if shutil.which("setpriv") is None:
        raise Skip("setpriv is missing")
    _status, output = run("setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups",
                          sys.executable, "-S", "-c", CLIENT, guard.socket_path, text)
    return json.loads(output)


CHANGES = [request("kick"), request("kick", address="10.0.0.1"),
           request("forget"), request("forget", address="10.0.0.1"),
           request("limit", address="10.0.0.1", limit=2),
           request("allow", address="10.0.0.1", seconds=60), request("cut", address="10.0.0.1"),
           request("reload"), request("keep"), request("keep", by="alice")]


def guard_with_group(lab, **options):
    """A guard whose daemon finds a group `connguard`, and the number of that group.

    Where this machine has none, the daemon alone is shown an /etc/group that has.
    """
    guard = lab.own_guard(start=False, **options)
    try:
        group = grp.getgrnam("connguard").gr_gid
        return guard.start(), group
    except KeyError:
        pass
    path = os.path.join(guard.directory, "group")
    with open("/etc/group", encoding="utf-8") as file:
        groups = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(groups.rstrip("\n") + f"\nconnguard:x:{GROUP}:\n")
    guard.wrapper = ["unshare", "--mount", "sh", "-c",
                     'mount --bind "$0" /etc/group && exec "$@"', path]
    return guard.start(), GROUP


def resident(guard):
    """Bytes of memory that the daemon has."""
    with open(f"/proc/{guard.process.pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# A crowd of clients: opens connections, behaves as told, and says for each line of its input what came so far;
# after "end" it goes.
#   half     each sends the beginning of a request, then a byte now and then
#   deaf     each asks as much as it can and reads nothing
#   greedy   each asks as much as it can and reads all
#   once     each asks once and reads all
#   idle     each does nothing
CROWD = """
import json, select, socket, sys
path, count, manner, request = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4].encode()
poller = select.poll()
poller.register(0, select.POLLIN)
crowd = {}
for _ in range(count):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(path)
    sock.setblocking(False)
    crowd[sock.fileno()] = sock
    poller.register(sock, select.POLLOUT if manner == "deaf" else
                    select.POLLIN | select.POLLOUT if manner == "greedy" else select.POLLIN)
    if manner in ("half", "once"):
        try:
            sock.send(request[:1] if manner == "half" else request + b"\\n")
        except OSError:
            # One too many, and told so already.
            pass
text = dict.fromkeys(crowd, b"")
received = dict.fromkeys(crowd, 0)
flood = b"".join([request + b"\\n"] * 50)
print("ready", flush=True)
wish = ""
while wish != "end":
    ready = poller.poll(500)
    for fd, what in ready:
        sock = crowd.get(fd)
        if sock is None:
            continue
        try:
            if what & select.POLLIN:
                data = sock.recv(1 << 20)
                received[fd] += data.count(b"\\n")
                text[fd] = (text[fd] + data)[-4096:]
                if not data:
                    raise ConnectionResetError
            if what & select.POLLOUT:
                sock.send(flood)
            elif what & select.POLLHUP:
                raise ConnectionResetError
        except BlockingIOError:
            pass
        except OSError:
            poller.unregister(crowd.pop(fd))
    if manner == "half":
        for sock in list(crowd.values()):
            try:
                sock.send(request[:1])
            except OSError:
                pass
    if any(fd == 0 for fd, _ in ready):
        wish = sys.stdin.readline().strip() or "end"
        print(json.dumps({"open": len(crowd), "answers": sum(received.values()),
                          "last": sorted({line.decode(errors="replace")[:200] for one in text.values()
                                          for line in one.splitlines()[-1:]})}), flush=True)
"""


class Crowd:
    """Clients that are not root but in the group, in a process of their own."""

    def __init__(self, lab, guard, group, count, manner, text):
        if shutil.which("setpriv") is None:
            raise Skip("setpriv is missing")
        self.process = subprocess.Popen(
            ["setpriv", f"--reuid={NOBODY}", f"--regid={group}", "--clear-groups", sys.executable,
             "-S", "-c", CROWD, guard.socket_path, str(count), manner, text],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=die_with_parent)
        lab.at_end(self.kill)
        assert first_line(self.process, "the crowd comes") == b"ready\n", "the crowd does not come"

    def look(self):
        """What came of it: how many are still connected, how many lines they got, the last ones."""
        self.process.stdin.write(b"look\n")
        self.process.stdin.flush()
        return json.loads(first_line(self.process, "the crowd says what came"))

    def end(self):
        """The same, for the last time."""
        with waiting("the crowd goes"):
            output, _ = self.process.communicate(b"end\n", timeout=PATIENCE * TIME_SCALE)
        return json.loads(output)

    def kill(self):
        self.process.kill()
        self.process.communicate()


def answer_time(guard):
    """Seconds that root waits for `status`."""
    began = time.monotonic()
    guard.status()
    return time.monotonic() - began


@test
def is_for_root_and_the_group(lab):
    guard, group = guard_with_group(lab)
    status = os.stat(guard.socket_path)
    assert stat.S_ISSOCK(status.st_mode) and status.st_uid == 0, status
    assert status.st_gid == group, status
    assert stat.S_IMODE(status.st_mode) == 0o660, oct(status.st_mode)


@test
def the_group_may_read(lab):
    guard, group = guard_with_group(lab)
    for name in ("status", "peers", "events", "due"):
        answer = as_user(guard, request(name), group=group)
        assert answer["ok"] is True and answer["result"]["name"] == guard.name, answer


@test
def the_group_may_not_change(lab):
    guard, group = guard_with_group(lab)
    peer = lab.fresh()
    before = guard.status()["policy"]
    link_out(lab, peer)
    for text in CHANGES:
        answer = as_user(guard, text, group=group)
        assert answer["ok"] is False and "root" in answer["error"], (text, answer)
    assert guard.status()["policy"] == before and guard.peer("10.0.0.1") is None
    assert len(guard.peer(peer.address)["links"]) == 1
    assert_dial_refused(lab, guard.watch(), peer, "dial_linked")


@test
def others_may_not_even_read(lab):
    guard, _group = guard_with_group(lab)
    assert as_user(guard, request("status")) == {"denied": True}
    alone = lab.guard()
    assert as_user(alone, request("status")) == {"denied": True}


# What is sent, and what the answer has to say: the value, and what was expected.
GARBAGE = {
    "no JSON": (b"this is no JSON", "not JSON", "one JSON object a line"),
    "nothing": (b"", "not JSON"),
    "an array": (b"[1, 2, 3]", "one JSON object a line"),
    "a number": (b"42", "not JSON"),
    "no protocol": (b'{"request": "status"}', '"protocol"'),
    "another protocol": (b'{"protocol": 99, "request": "status"}', "99", "expected 1"),
    "a protocol that is text": (b'{"protocol": "1", "request": "status"}', '"protocol" (integer)'),
    "no request": (b'{"protocol": 1}', '"request"'),
    "an unknown request": (b'{"protocol": 1, "request": "explode"}', "'explode'",
                           "expected one of", "status", "reload"),
    "a request that is no text": (b'{"protocol": 1, "request": 7}', '"request" (text)'),
    "a member twice": (b'{"protocol": 1, "request": "status", "request": "kick"}', "not JSON"),
    "no address": (b'{"protocol": 1, "request": "explain"}', '"address" is missing',
                   "an IPv4 or IPv6 address"),
    "an address that is none": (b'{"protocol": 1, "request": "explain", "address": "here"}',
                                '"address": "here"', "an IPv4 or IPv6 address"),
    "an address that is a number": (b'{"protocol": 1, "request": "explain", "address": 7}',
                                    '"address": 7', "an IPv4 or IPv6 address"),
    "an address to kick that is nothing": (
        b'{"protocol": 1, "request": "kick", "address": null}', '"address": null',
        "an IPv4 or IPv6 address"),
    "an address to cut that is a prefix": (
        b'{"protocol": 1, "request": "cut", "address": "10.0.0.0/8"}', '"10.0.0.0/8"'),
    "a limit for loopback": (
        b'{"protocol": 1, "request": "limit", "address": "127.0.0.1", "limit": 2}',
        '"127.0.0.1"', "unicast"),
    "a name that is none": (
        b'{"protocol": 1, "request": "limit", "address": "10.0.0.1", "limit": 2, "by": "a b"}',
        '"by": "a b"', "a login name"),
    "no limit": (b'{"protocol": 1, "request": "limit", "address": "10.0.0.1"}',
                 '"limit" is missing', "an integer from 0 to 7"),
    "a limit that is too great": (
        b'{"protocol": 1, "request": "limit", "address": "10.0.0.1", "limit": 9}',
        '"limit": 9', "an integer from 0 to 7"),
    "a negative limit": (
        b'{"protocol": 1, "request": "limit", "address": "10.0.0.1", "limit": -1}',
        '"limit": -1', "an integer from 0 to 7"),
    "a limit that is text": (
        b'{"protocol": 1, "request": "limit", "address": "10.0.0.1", "limit": "2"}',
        '"limit": "2"', "an integer from 0 to 7"),
    "a limit with a fraction": (
        b'{"protocol": 1, "request": "limit", "address": "10.0.0.1", "limit": 1.5}',
        '"limit": 1.5', "an integer from 0 to 7"),
    "no seconds": (b'{"protocol": 1, "request": "allow", "address": "10.0.0.1"}',
                   '"seconds" is missing', "an integer from -1"),
    "seconds out of range": (
        b'{"protocol": 1, "request": "allow", "address": "10.0.0.1", "seconds": -2}',
        '"seconds": -2', "an integer from -1"),
    "more seconds than a century has": (
        b'{"protocol": 1, "request": "allow", "address": "10.0.0.1", "seconds": 3162240001}',
        '"seconds": 3162240001', "to 3162240000"),
    "an exemption for multicast": (
        b'{"protocol": 1, "request": "allow", "address": "ff02::1", "seconds": 9}',
        '"ff02::1"', "unicast"),
    "a prefix that is none": (
        b'{"protocol": 1, "request": "allow", "address": "10.0.0.0/40", "seconds": 9}',
        '"10.0.0.0/40"', "0 to 32"),
    "a prefix with bits behind it": (
        b'{"protocol": 1, "request": "allow", "address": "10.0.0.1/8", "seconds": 9}',
        '"10.0.0.1/8"', "bits set behind"),
    "a prefix that is not exempt": (
        b'{"protocol": 1, "request": "allow", "address": "192.0.2.0/24", "seconds": 0}',
        "no such prefix"),
    "a follow that is text": (b'{"protocol": 1, "request": "events", "follow": "yes"}',
                              '"follow": "yes"', "true or false"),
    "a follow that is a number": (b'{"protocol": 1, "request": "due", "follow": 1}',
                                  '"follow": 1', "true or false"),
    "a peer that is unknown": (b'{"protocol": 1, "request": "cut", "address": "192.0.2.200"}',
                               "no such peer"),
    "bytes that are no UTF-8": (b'{"protocol": 1, "request": "\xff\xfe"}', "not JSON"),
    "a NUL": (b'{"protocol": 1, "request": "sta\x00tus"}', "not JSON"),
    "a NUL that is spelled": (b'{"protocol": 1, "request": "status\\u0000"}', "not JSON"),
    "deep nesting": (b"[" * 4000, "not JSON"),
    "a great number": (b'{"protocol": 1e999, "request": "status"}', "not JSON"),
}


@each(*GARBAGE)
def nonsense_is_answered_with_a_reason(lab, case):
    guard = lab.guard()
    client = Client(lab, guard)
    data, *words = GARBAGE[case]
    answer = client.ask(data)
    assert answer and answer["ok"] is False, answer
    assert all(word in answer["error"] for word in words), (words, answer)
    assert guard.peer("10.0.0.1") is None
    assert guard.status()["healthy"]


@test
def a_client_goes_on_after_an_error(lab):
    guard = lab.guard()
    client = Client(lab, guard)
    assert client.ask(b'{"protocol": 1, "request": "explode"}')["ok"] is False
    assert client.ask(request("status").encode())["ok"] is True


@test
def unknown_members_are_ignored(lab):
    client = Client(lab, lab.guard())
    assert client.ask(request("status", colour="blue").encode())["ok"] is True


@test
def many_requests_in_one_go_are_answered_in_order(lab):
    guard = lab.guard()
    client = Client(lab, guard)
    addresses = [f"192.0.2.{number}" for number in range(1, 21)]
    client.send(b"".join(request("explain", address=address).encode() + b"\n"
                         for address in addresses))
    assert [client.answer()["result"]["address"] for _ in addresses] == addresses


@test
def a_request_in_pieces(lab):
    client = Client(lab, lab.guard())
    text = request("status").encode() + b"\n"
    for position in range(len(text)):
        client.send(text[position:position + 1])
    assert client.answer()["ok"] is True


@test
def a_client_that_sends_no_more_is_answered(lab):
    """As `echo ... | nc -U -N`: the requests that it sent before count."""
    guard = lab.guard()
    client = Client(lab, guard)
    assert client.ask(request("status").encode())["ok"] is True
    # The daemon shall find the end together with what came before it.
    guard.signal(signal.SIGSTOP)
    client.send(request("status").encode() + b"\n" + request("kick").encode() + b"\n{")
    client.sock.shutdown(socket.SHUT_WR)
    guard.signal(signal.SIGCONT)
    assert client.answer()["ok"] is True
    assert client.answer()["result"] == {"kicked": 0}
    assert client.answer() is None


@test
def a_line_of_the_greatest_length_is_taken_and_a_longer_one_is_not(lab):
    guard = lab.guard()
    text = request("status", padding="").encode()
    fitting = request("status", padding="x" * (REQUEST_MAX - 1 - len(text))).encode()
    assert len(fitting) + 1 == REQUEST_MAX
    assert Client(lab, guard).ask(fitting)["ok"] is True
    client = Client(lab, guard)
    answer = client.ask(fitting + b" ")
    assert answer["ok"] is False and str(REQUEST_MAX) in answer["error"], answer
    assert client.answer() is None, "the client was not cut off"


@test
def a_line_without_end_is_cut_off(lab):
    guard = lab.guard()
    client = Client(lab, guard)
    try:
        for _ in range(64):
            client.send(b"x" * 4096)
    except (BrokenPipeError, ConnectionResetError):
        pass
    else:
        answer = client.answer()
        assert answer is None or answer["ok"] is False, answer
    assert guard.status()["healthy"]


@test
def a_client_that_hangs_up_at_any_time(lab):
    guard = lab.guard()
    for data in (b"", b"{", request("status").encode(), request("status").encode() + b"\n",
                 request("events", follow=True).encode() + b"\n"):
        client = Client(lab, guard)
        client.send(data)
        client.close()
    assert guard.status()["healthy"] and guard.running()


@test
def idle_clients_keep_no_reader_out(lab):
    """More of them than there are places; who follows and reads is not idle."""
    guard, group = guard_with_group(lab)
    follower = Crowd(lab, guard, group, 1, "once", request("events", follow=True))
    wait_for(lambda: follower.look()["answers"] == 1, "the follower follows")
    crowd = Crowd(lab, guard, group, 60, "idle", "")
    for user in (NOBODY, SOMEBODY, NOBODY):
        answer = as_user(guard, request("status"), user, group)
        assert answer["ok"] is True, answer
    status, text = guard.cli("status")
    assert status == 0, text
    # Of the three each has taken the place of an idle one.
    result = crowd.end()
    assert READERS_MAX - 4 <= result["open"] < READERS_MAX, result
    assert any("idle makes room" in line for line in result["last"]), result
    watch, peer = guard.watch(), lab.fresh()
    fail_dial(lab, watch, peer)
    wait_for(lambda: "dial_failed" in follower.look()["last"][0], lambda: f"the follower hears: {follower.look()}")
    assert follower.end()["open"] == 1


@test
def idle_clients_of_root_keep_nobody_out(lab):
    guard, group = guard_with_group(lab)
    clients = [Client(lab, guard) for _ in range(CLIENTS_MAX + 4)]
    assert as_user(guard, request("status"), group=group)["ok"] is True
    for client in clients[-8:]:
        assert client.ask(request("status").encode())["ok"] is True
    # The first to come were idle for the longest, and have been told.
    answer = clients[0].answer()
    assert answer["ok"] is False and "idle makes room" in answer["error"] and clients[0].answer() is None, answer
    guard.tell("kick", "--all")


@test
def who_has_many_clients_makes_room_for_who_has_few(lab):
    guard, group = guard_with_group(lab)
    crowd = Crowd(lab, guard, group, READERS_MAX, "once", request("events", follow=True))
    wait_for(lambda: crowd.look()["answers"] == READERS_MAX, "they all follow")
    # One of the same user would be one more of the same.
    answer = as_user(guard, request("status"), group=group)
    assert answer["ok"] is False and "too many clients" in answer["error"], answer
    answer = as_user(guard, request("status"), SOMEBODY, group)
    assert answer["ok"] is True, answer
    assert crowd.end()["open"] == READERS_MAX - 1


@test
def one_client_too_many_is_told_so(lab):
    guard = lab.own_guard()
    guard.events.stop()
    clients = []
    for _ in range(CLIENTS_MAX):
        client = Client(lab, guard)
        assert client.ask(request("events", follow=True).encode())["ok"] is True
        clients.append(client)
    # Without being asked, and then it hangs up.
    extra = Client(lab, guard)
    answer = extra.answer()
    assert answer and answer["ok"] is False and answer["error"], answer
    assert extra.answer() is None
    for client in clients[:8]:
        client.close()

    def works():
        answer = Client(lab, guard).ask(request("status").encode())
        return answer and answer["ok"]
    wait_for(works, "there is room again")


@test
def a_slow_follower_is_cut_off_and_others_are_not(lab):
    """Nobody's memory grows for a reader that does not read."""
    guard, peer = lab.own_guard(), lab.fresh()
    slow = Client(lab, guard)
    slow.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    slow.send(request("events", follow=True).encode() + b"\n")
    link_out(lab, peer)
    prober = Prober(lab, lab.home, peer.address, interval_us=0)

    hang_up = select.poll()
    hang_up.register(slow.sock, select.POLLRDHUP)
    before = resident(guard)
    wait_for(lambda: hang_up.poll(0), "the slow reader is cut off")
    prober.stop()
    assert resident(guard) - before < 64 * 1024 * 1024, "the daemon has grown"
    # Events may have been lost in that flood; nothing else is amiss.
    assert all("were lost" in problem for problem in guard.status()["problems"]), guard.status()


@test
def a_stale_socket_of_a_dead_daemon_is_replaced(lab):
    guard = lab.own_guard()
    guard.end(signal.SIGKILL)
    assert os.path.exists(guard.socket_path)
    guard.start()
    assert guard.status()["healthy"]
    guard.stop()


@test
def half_requests_keep_nobody_out_and_end(lab):
    """Clients that send a byte now and then and never a whole request, as many as there are places."""
    guard, group = guard_with_group(lab)
    began = time.monotonic()
    crowd = Crowd(lab, guard, group, CLIENTS_MAX, "half", " ")
    # The last places are root's, and root's requests do not wait.
    clients = [Client(lab, guard) for _ in range(CLIENTS_MAX - READERS_MAX - 4)]
    for client in clients:
        assert client.ask(request("status").encode())["ok"] is True
    longest = max(answer_time(guard) for _ in range(20))
    answer = as_user(guard, request("status"), group=group)
    assert answer["ok"] is True, answer
    wait_for(lambda: crowd.look()["open"] == 0, "half requests end", REQUEST_SECONDS + PATIENCE)
    assert time.monotonic() - began >= REQUEST_SECONDS, "a request has time"
    result = crowd.end()
    assert result["open"] == 0, result
    assert any(f"within {REQUEST_SECONDS} s" in line for line in result["last"]), result
    print(f"# root waited {longest * 1000:.1f} ms at most beside {READERS_MAX} half requests")


@test
def clients_that_read_nothing_have_a_bounded_part_of_memory(lab):
    guard, group = guard_with_group(lab, frugal=True)
    for number in range(400):
        guard.ask("limit", address=f"192.0.2.{number % 250}" if number < 250 else
                  f"198.51.100.{number - 250}", limit=1)
    before = resident(guard)
    crowd = Crowd(lab, guard, group, READERS_MAX, "deaf", request("peers"))
    size = len(json.dumps(guard.ask("peers")))
    watch = guard.watch()
    fail_dial(lab, watch, lab.fresh())
    # Every one of them has at least what the socket takes, and one answer more than the backlog.
    wait_for(lambda: resident(guard) - before > READERS_MAX * 512 * 1024 or answer_time(guard) > 9,
             lambda: f"the daemon has grown by {resident(guard) - before}")
    longest, deadline = 0.0, time.monotonic() + 1
    most = 0
    while time.monotonic() < deadline:
        longest = max(longest, answer_time(guard))
        most = max(most, resident(guard) - before)
    bound = UNREAD_MAX + READERS_MAX * 1024 * 1024 + (64 << 20)
    assert most < bound, f"the daemon has grown by {most} bytes"
    assert guard.status()["healthy"]
    crowd.end()
    print(f"# {READERS_MAX} deaf clients, answers of {size} bytes: the daemon grew by "
          f"{most >> 20} MiB, root waited {longest * 1000:.0f} ms at most")


@test
def a_flood_of_requests_does_not_make_the_daemon_late(lab):
    """Due peers and duplicates to destroy, while readers ask as fast as they can."""
    guard, group = guard_with_group(lab, hold_max="0s", initial="300ms", max="300ms")
    lab.need_delay()
    lab.home("node", listener=lab.home("listen", address="::", port=PORT), port=PORT)

    def lateness(count=15):
        """The greatest delay of an announcement and of a destruction, in ms."""
        watch = guard.watch()
        peers = [lab.fresh() for _ in range(count)]
        failures = [fail_dial(lab, watch, peer) for peer in peers]
        knockers = [lab.fresh(host=lab.far) for _ in range(5)]
        lab.far("volley", dials=[{"address": "10.78.0.1", "port": PORT, "source": knocker.address}
                                 for knocker in knockers for _ in range(2)])
        destroyed = [watch.event(knocker, "link_destroyed")["time_ns"]
                     - watch.event(knocker, "link_duplicate")["time_ns"] for knocker in knockers]
        due = [watch.event(peer, "peer_due")["time_ns"] - failure["until_ns"]
               for peer, failure in zip(peers, failures)]
        return max(due) / 1e6, max(destroyed) / 1e6

    for number in range(250):
        guard.ask("limit", address=f"192.0.2.{number}", limit=1)
    quiet = lateness()
    for name in ("peers", "status", "events"):
        crowd = Crowd(lab, guard, group, 8, "greedy", request(name))
        flooded = lateness()
        wait = max(answer_time(guard) for _ in range(5))
        answers = crowd.end()["answers"]
        assert answers > 20, f"no flood: {answers} answers"
        print(f"# {name}: {answers} answers meanwhile; announced late by {flooded[0]:.1f} ms, "
              f"destroyed after {flooded[1]:.1f} ms, root waited {wait * 1000:.1f} ms at most "
              f"(quiet: {quiet[0]:.1f} ms and {quiet[1]:.1f} ms)")
        # All that while the flood goes on, so not when it is over; how late is a matter of the machine.
        assert max(flooded) < LATE_SECONDS * 1000 * TIME_SCALE, flooded
        assert wait < LATE_SECONDS * TIME_SCALE, wait
    assert guard.status()["healthy"]
