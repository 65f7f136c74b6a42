# SPDX-License-Identifier: BSD-2-Clause
"""The control experiment: without a guard all of it passes, so that a refusal means something."""

from harness import DELAY_MS, IPV4, PATIENCE
from registry import core, each_family, test
from steps import assert_passed, dial, link_in, link_out, listen_home


@each_family
@core("IPv4", "IPv6")
def duplicates_pass(lab, family):
    lab.retire_shared()
    peer = lab.fresh(family)
    listener = listen_home(lab, family)
    links = [link_out(lab, peer), link_out(lab, peer), link_in(lab, peer, listener),
             link_in(lab, peer, listener)]
    assert all(link.alive() for link in links)


@test
@core()
def the_void_eats_dials(lab):
    lab.retire_shared()
    for _ in range(2):
        result = dial(lab, lab.void(), blocking=False)
        assert result["errno"] == "EINPROGRESS", result
        assert lab.home("settle", fd=result["fd"], timeout=0.1) is None


@test
@core()
def far_is_a_round_trip_away(lab):
    lab.retire_shared()
    lab.need_delay()
    peer = lab.fresh(IPV4, lab.far)
    peer.listen()
    result = assert_passed(dial(lab, peer))
    assert result["elapsed"] >= 2 * DELAY_MS / 1000, result
    assert peer.host("accept", fd=peer.listener, timeout=PATIENCE)
