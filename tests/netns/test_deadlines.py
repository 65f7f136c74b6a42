# SPDX-License-Identifier: BSD-2-Clause
"""The runner itself: a test that hangs fails in time, says what it waited for, and keeps nobody up."""

import os
import re
import signal
import subprocess
import sys

from harness import HERE, TIME_SCALE, die_with_parent, wait_end
from registry import takes, test

# A runner like this one, for the tests in hanging/, with so many seconds for each and for its end: a busy machine takes some
# of them until there is something to wait for.
SECONDS = 6
RUNNER = f"""
import sys
sys.path[:0] = [{HERE!r}, {os.path.join(HERE, "hanging")!r}]
import run
run.CLEAN_UP_SECONDS = 10
sys.exit(run.main({os.path.join(HERE, "hanging")!r}, run.harness.Lab, {SECONDS}))
"""

# What each says that it waits for.
WAITS = {
    "waits for an event": r"1 event\(s\) with .*'cause': 'dial_idle'\}; seen: none",
    "waits for a worker": r"cgt-home \(cgt-nt\d+-home\) answers to accept\(fd=\d+, timeout=3600\)",
    "reads from a program of its own": "a word of sleep",
    "reads without a word to anybody": "nothing that is named",
    "takes every error for its own": "the end of time",
    "has more time": "more time",
    "hangs when it is over": "the end of the end",
}


@test
@takes(240)
def a_test_that_hangs_fails_and_says_what_it_waits_for(lab):
    path = os.path.join(lab.directory, "hanging")
    with open(path, "wb") as file:
        runner = subprocess.Popen([sys.executable, "-c", RUNNER], stdin=subprocess.DEVNULL, stdout=file,
                                  stderr=file, env=dict(os.environ, CGT_HANGING=str(os.getpid())),
                                  preexec_fn=lambda: die_with_parent(signal.SIGTERM))
    wait_end(runner, "the end of the tests that hang", 200)
    with open(path, encoding="utf-8") as file:
        text = file.read()
    assert runner.returncode == 1, text
    results = re.findall(r"^((?:not )?ok) \d+ - hangs: (.*)\n((?:#.*\n)*)", text, re.M)
    # The others have their turn, before and after.
    assert [name for verdict, name, _ in results if verdict == "ok"] == [
        "does not hang", "does not hang after all these"], text
    assert [name for verdict, name, _ in results if verdict == "not ok"] == [*WAITS], text
    for _verdict, name, told in results:
        if name in WAITS:
            assert re.search(rf"is not over within \d+ s\. It waits for: {WAITS[name]}", told), told
            # And where it stood.
            assert f"in {name.replace(' ', '_')}\n" in told or "it is over" in name, told
    assert f"within {9 * TIME_SCALE:g} s. It waits for: more time" in text, text
    # What they started is gone.
    assert not running(f"sleep\0003599.{os.getpid()}"), text


def running(command):
    """Whether a process has this command line."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
                if file.read().rstrip("\0") == command:
                    return True
        except OSError:
            pass
    return False
