# SPDX-License-Identifier: BSD-2-Clause
"""The small node with little patience: a dial has half a second, less than until its SYN is repeated."""

from common import main
from mini import Connected


class Hasty(Connected):
    timeout_s = 0.5


if __name__ == "__main__":
    main(Hasty)
