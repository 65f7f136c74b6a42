# SPDX-License-Identifier: BSD-2-Clause
"""Waits until every pair of hosts of a running demo is linked.

usage: wait_linked.py DIRECTORY SECONDS
Exits 0 as soon as all are linked, 1 when SECONDS have passed first.
"""

import sys
import time

import logs


def main():
    directory, seconds = sys.argv[1], float(sys.argv[2])
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        run = logs.Run(directory)
        if run.pairs_linked_over_time()[-1][1] == len(run.pairs):
            return 0
        time.sleep(0.05)
    return 1


if __name__ == "__main__":
    sys.exit(main())
