# SPDX-License-Identifier: BSD-2-Clause
"""Dialing every millisecond, to see a moment without a guard: prober.c, started and read."""

import json
import subprocess
import threading

from harness import PORT, TIME_SCALE, die_with_parent, end_reader, helper, wait_end, wait_for
from steps import refusal

# A guard that is missed for a shorter time is not seen: half of the dials come after a millisecond,
# all but one of a hundred after twice that. Beside other tests a machine may stand still for longer.
MEDIAN_US_MAX = 1200 * TIME_SCALE
LATE_US_MAX = 4000 * TIME_SCALE
LONGEST_US_MAX = 100_000 * TIME_SCALE


class Prober:
    """Dials from a host's cgroup and namespace, until stop()."""

    def __init__(self, lab, host, address, source=None, cgroup=None, interval_us=1000, limit=0,
                 port=PORT):
        self.dials = 0
        self.result = None
        self.paced = interval_us > 0
        # What the guard answers: to dials of its own host, to knocks of others.
        self.refusal = refusal() if host is lab.home else "ECONNREFUSED"
        self.process = subprocess.Popen(
            [helper("prober", fast=True), cgroup or host.cgroup, f"/run/netns/{host.namespace}", "cgt-prober",
             address, str(port), str(interval_us), str(limit)] + ([source] if source else []),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=die_with_parent)
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()
        lab.at_end(self.destroy)

    def read(self):
        for line in self.process.stdout:
            message = json.loads(line)
            self.dials = message["dials"]
            if "outcomes" in message:
                self.result = message

    def wait_dials(self, more=100):
        """Until so many more dials have been made."""
        wanted = self.dials + more
        wait_for(lambda: self.dials >= wanted or self.process.poll() is not None,
                 f"the prober dials {more} times more")
        assert self.process.poll() is None, "the prober has ended"

    def destroy(self):
        self.process.kill()
        self.process.wait()
        end_reader(self.reader, self.process.stdout)
        if self.process.stdin:
            self.process.stdin.close()

    def stop(self, at_limit=False):
        """What came of the dials, when it has ended by its limit or by our leave."""
        if not at_limit:
            self.process.stdin.close()
            self.process.stdin = None
        wait_end(self.process, "the prober has made its last dial", 60)
        self.reader.join()
        assert self.process.returncode == 0 and self.result, "the prober failed"
        return self.result

    def assert_no_gap(self, least=100, outcomes=()):
        """Every dial met the guard, and there were dials at any time. `outcomes`: instead of its refusal."""
        result = self.stop()
        assert set(result["outcomes"]) <= set(outcomes or [self.refusal]), f"a gap: {result}"
        assert result["dials"] >= least, result
        if self.paced:
            assert result["median_us"] <= MEDIAN_US_MAX and result["late_us"] <= LATE_US_MAX \
                and result["longest_us"] <= LONGEST_US_MAX, f"dials too seldom to see a gap: {result}"
        return result
