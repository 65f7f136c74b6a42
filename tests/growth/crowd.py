#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Very many connections, which say nothing.

usage: crowd.py accept ADDRESS PORT COUNT CGROUP
       crowd.py dial ADDRESS PORT COUNT SOURCE

Accepts so many in a cgroup (a directory), or dials so many, each from another address of SOURCE, an IPv6 prefix of
64 bits that is this host's. Says "ready" when it listens, "done" when they are all there, and holds them until its
standard input ends.
"""

import ipaddress
import os
import resource
import socket
import sys

BACKLOG = 4096
# Descriptors beside the connections.
OTHERS = 64


def listen(address, port, cgroup):
    with open(os.path.join(cgroup, "cgroup.procs"), "w", encoding="ascii") as file:
        file.write(str(os.getpid()))
    listener = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((address, port))
    listener.listen(BACKLOG)
    return listener


def dial(address, port, source):
    dialing = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    dialing.bind((str(source), 0))
    dialing.connect((address, port))
    return dialing


def main():
    role, address, port, count, where = sys.argv[1:]
    port, count = int(port), int(count)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    if role == "accept":
        listener = listen(address, port, where)

        def connect(_number):
            return listener.accept()[0]
    else:
        first = int(ipaddress.IPv6Network(where).network_address) + 0x10000

        def connect(number):
            return dial(address, port, ipaddress.IPv6Address(first + number))
    print("ready", flush=True)
    # As many processes as it takes descriptors. Each ends when this one does.
    done, tell = os.pipe()
    over, stay = os.pipe()
    shares = range(0, count, limit - OTHERS)
    for begin in shares:
        if not os.fork():
            os.close(stay)
            held = [connect(number) for number in range(begin, min(begin + limit - OTHERS, count))]
            os.write(tell, b".")
            os.read(over, 1)
            os._exit(len(held) == 0)
    for _ in shares:
        os.read(done, 1)
    print("done", flush=True)
    sys.stdin.read()
    os.close(stay)
    for _ in shares:
        os.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
