#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Runs the tests with real services from the distribution, unmodified. Speaks TAP.

They use the runner and the laboratory of the namespace tests: options and environment are those of
tests/netns/run.py. At the end build/services.txt has the table of what was measured.
"""

import importlib.util
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
NETNS = os.path.join(os.path.dirname(HERE), "netns")
# A test that asks for a step of a study waits for all the steps before it.
TEST_SECONDS = 400

sys.dont_write_bytecode = True
sys.path[:0] = [HERE, NETNS]


def main():
    specification = importlib.util.spec_from_file_location("runner", os.path.join(NETNS, "run.py"))
    runner = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(runner)
    import lanes  # pylint: disable=import-outside-toplevel
    return runner.main(HERE, lanes.ServicesLab, TEST_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
