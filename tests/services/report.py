# SPDX-License-Identifier: BSD-2-Clause
"""The table: what was measured, of all runs together."""

import math
import statistics

import judge
from phases import GUARDED, UNGUARDED, VARIANTS
from study import NEVER, RECOVERED_S

WIDTHS = (48, 17, 27, 27)
HEAD = f"""\
Seconds until the session is up at both ends: the median and (the worst), and how much later the worst is than the
worst unguarded one. "!" marks what is later than {judge.BAR_S} s ({judge.BAR_S + judge.CRASHED_S} s after a crash), what \
has other links than wanted, and
what lost links that live on unguarded. "> {RECOVERED_S:g}": not within this time. Below what is later stands what became
of the last pair."""


class Report:
    def __init__(self, runs):
        self.runs = runs
        self.rows = {}    # (application, phase, kind): variant: times
        self.stories = {} # (application, phase, kind): variant: (seconds, story) of the last pair
        self.links = {}   # (application, phase): variant: [counts of links of a pair, short-lived, wrong]
        self.kept = {}    # (application, phase): variant: [lived on, of so many]
        self.crash = set()

    def add(self, application, phase, variant, outcome):
        """`outcome`: of study.py."""
        if phase.options is not None:
            return
        for kind, numbers in application.kinds().items():
            row = self.rows.setdefault((application.name, phase.name, kind),
                                       {name: [] for name in VARIANTS})
            row[variant] += outcome.times(numbers)
            if variant not in GUARDED:
                continue
            last = max(numbers, key=lambda number: outcome.seconds.get(number, NEVER))
            self.stories.setdefault((application.name, phase.name, kind), {})[variant] = (
                outcome.seconds.get(last, NEVER), outcome.story(last))
        if phase.crash:
            self.crash.add(phase.name)
        if phase.links:
            cell = self.links.setdefault((application.name, phase.name),
                                         {name: [[], 0, 0] for name in VARIANTS})[variant]
            cell[0] += [len(links) for links in outcome.links.values()]
            cell[1] += len(outcome.short_lived())
            cell[2] += bool(outcome.lane.variant.guarded) and sum(application.wrong_links(outcome, number) is not None
                           for number in application.numbers)
        if phase.kept:
            cell = self.kept.setdefault((application.name, phase.name),
                                        {name: [0, 0] for name in VARIANTS})[variant]
            cell[0] += len(outcome.kept)
            cell[1] += len(outcome.before)

    def merge(self, other):
        """What another process has measured."""
        for mine, theirs in ((self.rows, other.rows), (self.links, other.links), (self.kept, other.kept)):
            for key, cells in theirs.items():
                if key not in mine:
                    mine[key] = cells
                    continue
                for variant, cell in cells.items():
                    if mine is self.rows:
                        mine[key][variant] += cell
                    else:
                        mine[key][variant] = [a + b for a, b in zip(mine[key][variant], cell)]
        for key, stories in other.stories.items():
            mine = self.stories.setdefault(key, {})
            for variant, story in stories.items():
                mine[variant] = max(mine.get(variant, story), story)
        self.crash |= other.crash

    def text(self):
        lines = [HEAD, f"{self.runs} run(s).", ""]
        shown = None
        # Applications run side by side: their rows come in turns.
        order = list(dict.fromkeys(application for application, _phase, _kind in self.rows))
        for (application, phase, kind), row in sorted(self.rows.items(), key=lambda item: order.index(item[0][0])):
            if application != shown:
                lines += ["", columns(application, *VARIANTS)] if shown else [columns(application, *VARIANTS)]
                shown = application
            lines.append(columns(f"  {phase}{', ' + kind if kind else ''}",
                                 *(self.seconds(phase, row, name) for name in VARIANTS)))
            lines += [f"    {name}: {self.stories[application, phase, kind][name][1]}" for name in GUARDED
                      if self.is_over_the_bar(phase, row, name)]
            last = [key for key in self.rows if key[:2] == (application, phase)][-1]
            if (application, phase, kind) != last:
                continue
            key = application, phase
            if key in self.links:
                lines.append(columns("    links of a pair (short-lived in all)",
                                     *(links_text(self.links[key][name], name) for name in VARIANTS)))
            if key in self.kept:
                lines.append(columns("    links that live on",
                                     *(self.kept_text(key, name) for name in VARIANTS)))
        return "\n".join(lines) + "\n"

    def seconds(self, phase, row, variant):
        times, unguarded = row[variant], row[UNGUARDED]
        if not times:
            return "-"
        text = f"{number(statistics.median(times))} ({number(max(times))})"
        if variant == UNGUARDED or not unguarded:
            return text
        later = max(times) - max(unguarded)
        # Neither has come: nan.
        return text if math.isnan(later) else \
            f"{text} {later:+.2f}{' !' if self.is_over_the_bar(phase, row, variant) else ''}"

    def is_over_the_bar(self, phase, row, variant):
        bar = judge.BAR_S + (judge.CRASHED_S if phase in self.crash else 0)
        return bool(row[variant] and row[UNGUARDED]) and max(row[variant]) - max(row[UNGUARDED]) > bar

    def loses_links(self, key, variant):
        """More than the unguarded lane in the same runs, of as many."""
        (kept, before), (kept_there, before_there) = self.kept[key][variant], self.kept[key][UNGUARDED]
        return variant in GUARDED and kept * before_there < kept_there * before

    def kept_text(self, key, variant):
        kept, before = self.kept[key][variant]
        return f"{kept} of {before}{' !' if self.loses_links(key, variant) else ''}"

    def compared(self):
        """(how many comparisons there are with the worst unguarded one, what is marked with "!" in the table)."""
        over = [f"{application}: {phase}{', ' + kind if kind else ''} ({name}): {self.seconds(phase, row, name)}"
                for (application, phase, kind), row in self.rows.items() for name in GUARDED
                if self.is_over_the_bar(phase, row, name)]
        over += [f"{application}: {phase} ({name}): links of a pair: {links_text(cells[name], name)}"
                 for (application, phase), cells in self.links.items() for name in GUARDED
                 if has_wrong_links(cells[name])]
        over += [f"{application}: {phase} ({name}): {self.kept_text((application, phase), name)} live on"
                 for application, phase in self.kept for name in GUARDED if self.loses_links((application, phase), name)]
        return sum(bool(row[name] and row[UNGUARDED]) for row in self.rows.values() for name in GUARDED), over


def has_wrong_links(cell):
    counts, _short, wrong = cell
    return bool(counts and wrong)


def links_text(cell, variant):
    counts, short, _wrong = cell
    if not counts:
        return "-"
    text = f"{min(counts)}" if min(counts) == max(counts) else f"{min(counts)} to {max(counts)}"
    return f"{text} ({short}){' !' if variant in GUARDED and has_wrong_links(cell) else ''}"


def number(seconds):
    return f"> {RECOVERED_S:g}" if seconds == math.inf else f"{seconds:.2f}"


def columns(*cells):
    return "".join(f"{cell:<{width}}" for cell, width in zip(cells, WIDTHS)).rstrip()
