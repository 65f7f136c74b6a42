# SPDX-License-Identifier: BSD-2-Clause
"""Which sums of the counters must hold, whatever has happened (include/connguard/causes.h).

Every slot that was ever taken was given back or is held, and every refusal was counted once in the
peer and once in the counters. Owns the sums; reads nothing by itself.
"""

# A link begins with one of these and ends with one of those.
LINK_BEGINS = ("link_outbound", "link_inbound", "link_adopted", "link_surplus", "link_duplicate", "link_crossed",
               "link_replaced")
LINK_ENDS = ("link_short", "link_hung_up", "link_ended", "link_destroyed", "link_cut", "link_unguarded",
             "link_released")
# A claim begins with one of these.
CLAIM_BEGINS = ("dial_idle", "dial_exempt", "dial_unproven", "dial_kept", "dial_beside")
# A claim that does not become a link ends with one of these.
CLAIM_ENDS = ("dial_failed", "dial_unheard", "dial_yielded", "dial_superseded", "claim_closed", "claim_expired")
# Dials that are refused, and in observe mode go on with a claim.
DIAL_REFUSALS = ("dial_linked", "dial_suspect", "dial_dialing", "dial_pending", "dial_backoff", "dial_not_due")
# Knocks that are refused or held by the peer's state (knock_pending is the table's).
KNOCK_REFUSALS = ("knock_linked", "knock_suspect", "knock_tie_lost", "knock_open_won", "knock_open_met",
                  "knock_open_lost")
# Nothing of this may happen where there is memory and nobody who meddles with the map.
NEVER = ("dial_recycled", "link_released")
# A peer has eight slots at once where nothing is refused to it. A burst of its knocks takes as many,
# when more of them are retransmitted at one moment than can be held; then a link finds none.
NO_ROOM = ("dial_unheld", "link_unheld")
RELEVANT = (*LINK_BEGINS, *LINK_ENDS, *CLAIM_BEGINS, *CLAIM_ENDS, *DIAL_REFUSALS, *KNOCK_REFUSALS,
            *NEVER, *NO_ROOM)


def relevant(counters):
    """Of both books what the sums depend on: the rest may go on counting."""
    return {book: {name: counters[book].get(name, 0) for name in RELEVANT} for book in counters}


class Books:
    """Counters and peers of one guard at one moment when nothing changed."""

    def __init__(self, counters, peers):
        self.enforced = counters["enforced"]
        self.observed = counters["observed"]
        self.peers = peers

    def count(self, names):
        return sum(book.get(name, 0) for name in names for book in (self.enforced, self.observed))

    def held(self, kind):
        return sum(len(peer[kind]) for peer in self.peers)

    def links_open(self):
        """Links begun, less those ended and those held: must be 0."""
        return self.count(LINK_BEGINS) - self.count(LINK_ENDS) - self.held("links")

    def claims_open(self):
        """Claims made, less those ended, those held, and those that became links the plain way.

        What is left became links too many; at most as many as there were of them.
        """
        made = self.count(CLAIM_BEGINS) + sum(
            self.observed.get(name, 0) for name in DIAL_REFUSALS)
        return (made - self.count(CLAIM_ENDS) - self.held("claims")
                - self.count(("link_outbound",)))

    def claims_open_most(self):
        return self.count(("link_duplicate", "link_crossed", "link_replaced"))

    def refusals_open(self):
        """Refusals by the counters, less those by the peers: must be 0 and 0."""
        return (self.count(DIAL_REFUSALS) - sum(peer["refused_dials"] for peer in self.peers),
                self.count(KNOCK_REFUSALS) - sum(peer["refused_knocks"] for peer in self.peers))

    def no_room(self, *names):
        return self.count(names or NO_ROOM)

    def expired(self):
        return self.count(("claim_expired",))

    def never(self):
        """What should not have happened at all. A link without a slot is adopted when there is one."""
        found = {name: self.count((name,)) for name in NEVER if self.count((name,))}
        adopted = self.count(("link_adopted", "link_surplus"))
        if adopted > self.count(("link_unheld",)):
            found["link_adopted, link_surplus"] = adopted
        return found
