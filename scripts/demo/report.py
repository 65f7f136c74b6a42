# SPDX-License-Identifier: BSD-2-Clause
"""Computes the numbers of the demo's runs and writes them as a table, as JSON and as a plot.

usage: report.py --directory DIR --svg FILE [--json FILE] RUN...

Where the numbers come from:
  duplicate dials       the observer on the switch (tests/racer/wire.c says what a duplicate is)
  duplicate links       the racers: a second established connection with a peer, handed to the
                        application by accept or by the end of its own connect, while one is held
  rejected log lines    the racers' logs: lines "Rejecting duplicate inbound connection from ..."
  pairs linked          the racers' logs: both ends hold the same connection
  relink                from the moment the host that was down is back (cable in, program started)
                        to the moment that every pair is linked again

"Per hour and peer" is the number of attempts of one host to one of its peers in an hour of the
origin's time, the mean over all ordered (host, peer) pairs: with three hosts there are six. It is
taken over the whole run from the start of the racers, the quiet minutes and the outages included.
"""

import argparse
import json
import os

import logs

TITLES = {
    "unguarded": "unguarded",
    "one_guarded": "one host guarded",
    "all_guarded": "all hosts guarded",
}
COLOURS = {"unguarded": "#b2182b", "one_guarded": "#e08214", "all_guarded": "#2166ac"}
REJECTED = "Rejecting duplicate inbound connection from "
# What the origin reported, for comparison in the plot.
ORIGIN_LOW, ORIGIN_HIGH = 200, 300


class Result:
    """The numbers of one run."""

    def __init__(self, name, run):
        self.name = name
        self.run = run
        self.end = run.phase_time("end")
        self.hours = (self.end - run.start) * run.time_scale / 3600
        self.ordered_pairs = len(run.hosts) * (len(run.hosts) - 1)
        self.duplicate_dials = [
            event
            for event in run.wire
            if event["event"] == "dial" and event["duplicate"] and self.in_run(event)
        ]
        self.duplicate_links = {
            host: sum(e["event"] == "duplicate_link" and self.in_run(e) for e in events)
            for host, events in run.racers.items()
        }
        self.rejected_lines = sum(
            event["event"] == "log" and event["message"].startswith(REJECTED) and self.in_run(event)
            for events in run.racers.values()
            for event in events
        )
        linked = run.pairs_linked_over_time()
        self.pairs_linked = [count for time, count in linked if time <= self.end][-1]
        self.relink_real_seconds = self.relink(linked)
        stats = [event for event in run.wire if event["event"] == "stats"]
        self.packets_missed = stats[-1]["packets_missed"] if stats else None

    def in_run(self, event):
        return self.run.start <= event["time"] <= self.end

    def relink(self, linked):
        """Real seconds, or None if not all pairs were linked again."""
        back = self.run.phase_time("host_back")
        host = next(p["host"] for p in self.run.phases if p["phase"] == "host_back")
        # Before it says that it started, what is known of its links is from its former life.
        starts = [
            event["time"]
            for event in self.run.racers[host]
            if event["event"] == "start" and event["time"] >= back
        ]
        if not starts:
            return None
        for time, count in linked:
            if time >= starts[0] and count == len(self.run.pairs):
                return time - back
        return None

    def rate(self, count):
        """Per origin hour and peer."""
        return count / self.hours / self.ordered_pairs

    def busiest(self):
        """The ordered pair with most duplicate dials, as text."""
        names = {address: host for host, address in self.run.hosts.items()}
        counts = {}
        for event in self.duplicate_dials:
            pair = f"{names[event['from']]} to {names[event['to']]}"
            counts[pair] = counts.get(pair, 0) + 1
        if not counts:
            return "-"
        pair = max(counts, key=counts.get)
        return f"{pair}: {counts[pair] / self.hours:.0f}"

    @property
    def guarded_side(self):
        """The guarded hosts; without any, host a, which the next run guards, for comparison."""
        return self.run.guarded or [sorted(self.run.hosts)[0]]

    def as_json(self):
        relink = self.relink_real_seconds
        return {
            "duplicate_attempts_per_hour_per_peer": round(self.rate(len(self.duplicate_dials)), 2),
            "duplicate_links_seen_guarded_side": sum(
                self.duplicate_links[host] for host in self.guarded_side
            ),
            "duplicate_links_seen_total": sum(self.duplicate_links.values()),
            "rejected_log_lines_per_hour_per_peer": round(self.rate(self.rejected_lines), 2),
            "pairs_linked": self.pairs_linked,
            "pairs_total": len(self.run.pairs),
            "relink_seconds": None
            if relink is None
            else round(relink * self.run.time_scale, 1),
        }


def table(results):
    def seconds(value):
        return "never" if value is None else f"{value:.2f}"

    def relink_origin(result):
        real = result.relink_real_seconds
        return None if real is None else real * result.run.time_scale

    rows = [
        ("per hour and peer:", lambda r: ""),
        ("  duplicate dials on the wire", lambda r: f"{r.rate(len(r.duplicate_dials)):.1f}"),
        ("  duplicate links at an application",
         lambda r: f"{r.rate(sum(r.duplicate_links.values())):.1f}"),
        ("  rejected-duplicate log lines", lambda r: f"{r.rate(r.rejected_lines):.1f}"),
        ("busiest host and peer, dials per hour", lambda r: r.busiest()),
        ("duplicate dials on the wire, in all", lambda r: str(len(r.duplicate_dials))),
        ("duplicate links at applications, in all",
         lambda r: str(sum(r.duplicate_links.values()))),
        ("  of these at guarded hosts", lambda r: str(
            sum(r.duplicate_links[host] for host in r.run.guarded)) if r.run.guarded else "-"),
        ("pairs linked at the end", lambda r: f"{r.pairs_linked} of {len(r.run.pairs)}"),
        ("relink after the outage, real seconds", lambda r: seconds(r.relink_real_seconds)),
        ("  in the origin's time", lambda r: seconds(relink_origin(r))),
    ]
    width = max(len(label) for label, _ in rows)
    columns = [max(17, len(TITLES[result.name])) for result in results]
    lines = [
        " " * width
        + "".join(f"  {TITLES[r.name]:>{column}}" for r, column in zip(results, columns))
    ]
    for label, value in rows:
        lines.append(
            f"{label:<{width}}"
            + "".join(f"  {value(r):>{column}}" for r, column in zip(results, columns))
        )
    scale = results[0].run.time_scale
    minutes = results[0].hours * 60
    lines += [
        "",
        f"Each run: {minutes:.0f} minutes of the origin's time, {scale} times faster.",
        "Per hour and peer: attempts of one host to one peer in an hour of that time, the mean over",
        "all six ordered pairs and the whole run. The origin reported 200 to 300. One task caught in",
        "the race makes 360; what is above that are stacked tasks, of which the periodic check adds",
        "one every two minutes to a peer whose mark is gone.",
    ]
    for result in results:
        if result.packets_missed is None:
            lines.append(f"{TITLES[result.name]}: the observer wrote no last word; do not trust it")
        elif result.packets_missed:
            lines.append(
                f"{TITLES[result.name]}: the observer missed {result.packets_missed} packets"
            )
    return "\n".join(line.rstrip() for line in lines)


# --- the plot -------------------------------------------------------------------------------------

WIDTH, HEIGHT = 860, 400
LEFT, RIGHT, TOP, BOTTOM = 72, 168, 52, 52


def round_up(value):
    """The next number of the form 1, 2, 2.5 or 5 times a power of ten."""
    power = 1
    while power * 10 <= value:
        power *= 10
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= value)


def minutes_since_up(result, time):
    return (time - result.run.phase_time("all_up")) * result.run.time_scale / 60


def per_minute(result):
    """[duplicate dials per hour and peer], one for each whole minute of the origin's time."""
    bins = [0] * max(1, int(minutes_since_up(result, result.end)))
    for event in result.duplicate_dials:
        minute = minutes_since_up(result, event["time"])
        if 0 <= minute < len(bins):
            bins[int(minute)] += 1
    return [count * 60 / result.ordered_pairs for count in bins]


def plot(results):
    series = {result.name: per_minute(result) for result in results}
    minutes = max(len(values) for values in series.values())
    top = round_up(max(ORIGIN_HIGH, *(max(values) for values in series.values())))
    plot_width, plot_height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(minute):
        return LEFT + plot_width * minute / minutes

    def y(value):
        return TOP + plot_height * (1 - value / top)

    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'height="{HEIGHT}" font-family="sans-serif" font-size="12" fill="#222">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="24" font-size="15" font-weight="bold">'
        "Duplicate dials on the wire, per hour and peer</text>",
    ]
    first = results[0]
    for begin, end, label in (
        ("host_down", "host_back", "host c down"),
        ("cable_out", "cable_back", "cable of b out"),
    ):
        left, right = (x(minutes_since_up(first, first.run.phase_time(p))) for p in (begin, end))
        out.append(
            f'<rect x="{left:.1f}" y="{TOP}" width="{right - left:.1f}" height="{plot_height}" '
            'fill="#ececec"/>'
            f'<text x="{(left + right) / 2:.1f}" y="{TOP - 6}" text-anchor="middle" fill="#666">'
            f"{label}</text>"
        )
    out.append(
        f'<rect x="{LEFT}" y="{y(ORIGIN_HIGH):.1f}" width="{plot_width}" '
        f'height="{y(ORIGIN_LOW) - y(ORIGIN_HIGH):.1f}" fill="#f4a582" opacity="0.45"/>'
        f'<text x="{WIDTH - RIGHT + 8}" y="{y((ORIGIN_LOW + ORIGIN_HIGH) / 2) + 4:.1f}" '
        'fill="#a0522d">reported by the origin</text>'
    )
    for step in range(6):
        value = top * step / 5
        out.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
            f'stroke="#ccc" stroke-width="{1 if step else 1.5}"/>'
            f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>'
        )
    for minute in range(0, minutes + 1, 5):
        out.append(
            f'<text x="{x(minute):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{minute}'
            "</text>"
        )
    out.append(
        f'<text x="{LEFT + plot_width / 2}" y="{HEIGHT - 12}" text-anchor="middle">'
        "minutes of the origin's time since all hosts were linked</text>"
    )
    for position, result in enumerate(results):
        values = series[result.name]
        points = []
        for minute, value in enumerate(values):
            points += [f"{x(minute):.1f},{y(value):.1f}", f"{x(minute + 1):.1f},{y(value):.1f}"]
        colour = COLOURS[result.name]
        legend = TOP + 14 + 36 * position
        out.append(
            f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" '
            'stroke-width="2"/>'
            f'<line x1="{WIDTH - RIGHT + 8}" x2="{WIDTH - RIGHT + 30}" y1="{legend - 4}" '
            f'y2="{legend - 4}" stroke="{colour}" stroke-width="3"/>'
            f'<text x="{WIDTH - RIGHT + 36}" y="{legend}">{TITLES[result.name]}</text>'
            f'<text x="{WIDTH - RIGHT + 36}" y="{legend + 15}" fill="#666">mean '
            f"{result.rate(len(result.duplicate_dials)):.1f}</text>"
        )
    out.append("</svg>")
    return "\n".join(out) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--directory", required=True)
    parser.add_argument("--svg", required=True)
    parser.add_argument("--json")
    parser.add_argument("runs", nargs="+", choices=list(TITLES))
    arguments = parser.parse_args()

    results = [
        Result(name, logs.Run(os.path.join(arguments.directory, name))) for name in arguments.runs
    ]
    with open(arguments.svg, "w", encoding="utf-8") as file:
        file.write(plot(results))
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({result.name: result.as_json() for result in results}, file, indent=2)
            file.write("\n")
    print()
    print(table(results))
    print(f"\nPlot: {arguments.svg}" + (f"\nJSON: {arguments.json}" if arguments.json else ""))


if __name__ == "__main__":
    main()
