# SPDX-License-Identifier: BSD-2-Clause
"""What is done to an application: the phases of a study, in their order, and what each is judged by."""

UNGUARDED, ONE, BOTH = "unguarded", "one end guarded", "both ends guarded"
GUARDED = (ONE, BOTH)
VARIANTS = (UNGUARDED, *GUARDED)
# Hosts of a lane that have a guard.
ENDS = {UNGUARDED: (), ONE: ("near",), BOTH: ("near", "middle", "far")}

# The short one is outlived by every session here, the long one by idle ones alone.
SHORT_CUT_S, LONG_CUT_S = 6, 20
# No host boots in less.
REBOOT_S = 3
LONG_S = 30
BETWEEN_RESTARTS_S = 3


class Phase:
    """A name and a method of the study (study.py)."""

    def __init__(self, name, method, *arguments, links=False, kept=False, crash=False, outlived=False,
                 options=None, wrong=None):
        self.name = name
        self.method = method
        self.arguments = arguments
        # Guards that are not as nobody configured them, in lanes of their own. Such a phase is judged by a
        # method of the application, `wrong`, and by nothing else.
        self.options = options
        self.wrong = wrong
        self.links = links   # judged by the links that come up: as many as wanted, none short-lived
        self.kept = kept     # judged by the links that live on
        self.crash = crash   # a guard may hold the SYN of who crashed
        self.outlived = outlived  # sessions of those who did not crash are there still when the peer is back

    @property
    def variants(self):
        """Those that have a result in this phase."""
        return VARIANTS if self.options is None else GUARDED

    def __repr__(self):
        return self.name


COLD_START = Phase("cold start", "cold_start", links=True)
CROSSING = Phase("start with dials that cross", "crossing", links=True)
PEER_RESTARTS = Phase("peer restarted three times", "restarts", "far", 3, BETWEEN_RESTARTS_S)
OWN_RESTARTS = Phase("restarted three times", "restarts", "near", 3, BETWEEN_RESTARTS_S)
PEER_DOWN = Phase("peer down 30 s", "down", LONG_S)
SHORT_CUT = Phase("cut 6 s", "cut", SHORT_CUT_S, kept=True)
LONG_CUT = Phase("cut 20 s", "cut", LONG_CUT_S, kept=True)
CRASH = Phase("crash, back after 3 s", "crash", REBOOT_S, crash=True, outlived=True)
LONG_CRASH = Phase("crash, back after 30 s", "crash", LONG_S, crash=True)
# `systemctl restart`: the cgroup goes and comes with the unit.
UNIT_RESTARTS = Phase("unit restarted five times", "restarts", "near", 5, 0.5, True)
PEER_UNIT_RESTARTS = Phase("peer's unit restarted five times", "restarts", "far", 5, 0.5, True)

ONE_WAY = [COLD_START, PEER_RESTARTS, OWN_RESTARTS, PEER_DOWN, SHORT_CUT, LONG_CUT, CRASH, LONG_CRASH]
MUTUAL = [COLD_START, CROSSING, *ONE_WAY[1:]]
