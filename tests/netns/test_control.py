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
import sys

from harness import TIME_SCALE, Skip, run, wait_for
from prober import Prober
from registry import each, test
from steps import assert_dial_refused, link_out

REQUEST_MAX = 4096
CLIENTS_MAX = 64
NOBODY = 65534
# A number that no group of a usual machine has.
GROUP = 64123

# Talks to the socket as another user would: prints the answer.
CLIENT = """
import json, socket, sys
sock = socket.socket(socket.AF_UNIX)
sock.settimeout(10)
try:
    sock.connect(sys.argv[1])
except PermissionError:
    print(json.dumps({"denied": True}))
    sys.exit()
sock.sendall(sys.argv[2].encode() + b"\\n")
print(sock.makefile().readline())
"""


class Client:
    """A raw connection to the daemon."""

    def __init__(self, lab, guard):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(10 * TIME_SCALE)
        self.sock.connect(guard.socket_path)
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
            line = self.stream.readline()
        except ConnectionResetError:
            return None
        return json.loads(line) if line else None

    def ask(self, data):
        self.send(data + b"\n")
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
           request("limit", address="10.0.0.1", limit=2),
           request("allow", address="10.0.0.1", seconds=60), request("cut", address="10.0.0.1"),
           request("reload")]


def guard_with_group(lab):
    """A guard whose daemon finds a group `connguard`, and the number of that group.

    Where this machine has none, the daemon alone is shown an /etc/group that has.
    """
    try:
        group = grp.getgrnam("connguard").gr_gid
        return lab.guard(), group
    except KeyError:
        pass
    guard = lab.own_guard(start=False)
    path = os.path.join(guard.directory, "group")
    with open("/etc/group", encoding="utf-8") as file:
        groups = file.read()
    with open(path, "w", encoding="utf-8") as file:
        file.write(groups.rstrip("\n") + f"\nconnguard:x:{GROUP}:\n")
    guard.wrapper = ["unshare", "--mount", "sh", "-c",
                     'mount --bind "$0" /etc/group && exec "$@"', path]
    return guard.start(), GROUP


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


GARBAGE = {
    "no JSON": b"this is no JSON",
    "nothing": b"",
    "an array": b"[1, 2, 3]",
    "a number": b"42",
    "no protocol": b'{"request": "status"}',
    "another protocol": b'{"protocol": 99, "request": "status"}',
    "no request": b'{"protocol": 1}',
    "an unknown request": b'{"protocol": 1, "request": "explode"}',
    "a request that is no text": b'{"protocol": 1, "request": 7}',
    "no address": b'{"protocol": 1, "request": "explain"}',
    "an address that is none": b'{"protocol": 1, "request": "explain", "address": "here"}',
    "an address that is a number": b'{"protocol": 1, "request": "explain", "address": 7}',
    "a limit that is too great":
        b'{"protocol": 1, "request": "limit", "address": "10.0.0.1", "limit": 9}',
    "a negative limit":
        b'{"protocol": 1, "request": "limit", "address": "10.0.0.1", "limit": -1}',
    "a limit that is text":
        b'{"protocol": 1, "request": "limit", "address": "10.0.0.1", "limit": "2"}',
    "seconds out of range":
        b'{"protocol": 1, "request": "allow", "address": "10.0.0.1", "seconds": -2}',
    "a prefix that is none":
        b'{"protocol": 1, "request": "allow", "address": "10.0.0.0/40", "seconds": 9}',
    "a peer that is unknown": b'{"protocol": 1, "request": "cut", "address": "192.0.2.200"}',
    "bytes that are no UTF-8": b'{"protocol": 1, "request": "\xff\xfe"}',
    "a NUL": b'{"protocol": 1, "request": "sta\x00tus"}',
    "deep nesting": b"[" * 4000,
    "a great number": b'{"protocol": 1e999, "request": "status"}',
}


@each(*GARBAGE)
def nonsense_is_answered_with_a_reason(lab, case):
    guard = lab.guard()
    client = Client(lab, guard)
    answer = client.ask(GARBAGE[case])
    assert answer and answer["ok"] is False and answer["error"], answer
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
def one_client_too_many_is_told_so(lab):
    guard = lab.own_guard()
    guard.events.stop()
    clients = []
    for _ in range(CLIENTS_MAX):
        client = Client(lab, guard)
        assert client.ask(request("status").encode())["ok"] is True
        clients.append(client)
    # Without being asked, and then it hangs up.
    extra = Client(lab, guard)
    answer = extra.answer()
    assert answer and answer["ok"] is False and answer["error"], answer
    assert extra.answer() is None
    for client in clients[:8]:
        client.close()

    def works():
        late = Client(lab, guard)
        try:
            answer = late.ask(request("status").encode())
        except BrokenPipeError:
            return False
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

    def resident():
        with open(f"/proc/{guard.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    hang_up = select.poll()
    hang_up.register(slow.sock, select.POLLRDHUP)
    before = resident()
    wait_for(lambda: hang_up.poll(0), "the slow reader is cut off", 30)
    prober.stop()
    assert resident() - before < 64 * 1024 * 1024, "the daemon has grown"
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
