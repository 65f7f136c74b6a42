# SPDX-License-Identifier: BSD-2-Clause
"""Tests that wait for what never comes, in every way; test_deadlines.py runs them and reads the end of each."""

import os
import subprocess

from harness import first_line, wait_for
from registry import takes, test

HOUR = 3600
# By which those who run these tests know what they start from what others do.
SLEEP = ["sleep", f"3599.{os.environ['CGT_HANGING']}"]


@test
@takes(60)
def does_not_hang(lab):
    """It makes the guard, for which the next one has no time."""
    assert lab.guard().cli("status")[0] == 0


@test
def waits_for_an_event(lab):
    guard, peer = lab.guard(), lab.fresh()
    guard.watch().event(peer, "dial_idle", seconds=HOUR)


@test
def waits_for_a_worker(lab):
    listener = lab.home("listen", address="10.77.0.1", port=24000)
    lab.home.finish(lab.home.start("accept", fd=listener, timeout=HOUR), HOUR)


@test
def reads_from_a_program_of_its_own(_lab):
    program = subprocess.Popen(SLEEP, stdout=subprocess.PIPE)
    first_line(program, "a word of sleep", HOUR)


@test
def reads_without_a_word_to_anybody(_lab):
    with subprocess.Popen(SLEEP, stdout=subprocess.PIPE) as program:
        try:
            program.stdout.read()
        except BaseException:
            program.kill()
            raise


@test
def takes_every_error_for_its_own(_lab):
    while True:
        try:
            wait_for(lambda: False, "the end of time", HOUR)
        except Exception:
            pass


@test
@takes(9)
def has_more_time(_lab):
    wait_for(lambda: False, "more time", HOUR)


@test
def hangs_when_it_is_over(lab):
    lab.at_end(wait_for, lambda: False, "the end of the end", HOUR)


@test
@takes(60)
def does_not_hang_after_all_these(lab):
    assert lab.home("state", fd=lab.home("listen", address="10.77.0.1", port=24000)) == 10
    assert lab.guard().cli("status")[0] == 0
