#!/usr/bin/env python3
# SPDX-License-Identifier: BSD-2-Clause
"""Makes the tables and bench.json out of what compare.sh has written down.

usage: report.py DIRECTORY COUNT BENCH_JSON

DIRECTORY holds, as lines of words:
    behaviours  VARIANT NAME yes|no HOW
    crossing    VARIANT links NUMBER
    costs       ROUND VARIANT NAME NANOSECONDS REFUSED     (of COUNT connections)
    loads       ROUND VARIANT MILLISECONDS

Exits 1 when a guard refused what it should allow, or the reverse: then it was not measured but broken.
"""

import json
import os
import platform
import statistics
import sys

VARIANTS = ["nothing", "nftables", "connguard"]
BEHAVIOURS = {
    "dial_while_dialed_refused": "our dial is refused while our dial is the link",
    "dial_while_knocked_refused": "our dial is refused while their knock is the link",
    "knock_while_dialed_refused": "their knock is refused while our dial is the link",
    "knock_while_knocked_refused": "their knock is refused while their knock is the link",
    "dial_in_backoff_refused": "our dial is refused in backoff",
    "knock_in_backoff_passes": "their knock passes in backoff",
    "fin_wait_is_no_link": "a link in FIN_WAIT2 is no link any more",
    "time_wait_is_no_link": "a link in TIME_WAIT is no link any more",
    "knock_after_crash_unnoticed": "a crashed peer gets in, our TCP has not noticed",
    "knock_after_crash_given_up": "a crashed peer gets in, our TCP gave the link up",
    "reason_visible": "the reason of a refusal can be read",
    "process_visible": "the process that dialed can be read",
}
COSTS = {
    "dial": "our dial, allowed",
    "knock": "their knock, allowed",
    "duplicate_dial": "our dial, a duplicate",
    "duplicate_knock": "their knock, a duplicate",
    "packet": "a packet on a link",
}


def read_words(directory, name):
    with open(os.path.join(directory, name), encoding="utf-8") as file:
        return [line.split() for line in file]


def check_refusals(costs, count):
    """A list of sentences, empty when every guard did what it is there for."""
    complaints = []
    for number, variant, name, _, refused in costs:
        wanted = count if name.startswith("duplicate") and variant != "nothing" else 0
        if int(refused) != wanted:
            complaints.append(f"round {number}, {variant}, {name}: {refused} refused, not {wanted}")
    return complaints


def summarise(values):
    return {"median": statistics.median(values), "least": min(values), "most": max(values)}


def summarise_costs(costs):
    """{cost: {variant: nanoseconds and ratio to nothing in the same round}}"""
    value = {(number, variant, name): float(ns) for number, variant, name, ns, _ in costs}
    rounds = sorted({number for number, _, _ in value})
    result = {}
    for name in COSTS:
        result[name] = {}
        for variant in VARIANTS:
            entry = {"ns": summarise([value[number, variant, name] for number in rounds])}
            if variant != "nothing":
                entry["ratio"] = summarise([value[number, variant, name] /
                                            value[number, "nothing", name] for number in rounds])
            result[name][variant] = entry
    return result


def show(numbers):
    print()
    print(f"{'WHAT IT DOES':<54}" + "".join(f"{variant:<11}" for variant in VARIANTS).rstrip())
    for name, sentence in BEHAVIOURS.items():
        answers = "".join(f"{'yes' if numbers['behaviours'][name][variant] else 'no':<11}"
                          for variant in VARIANTS)
        print(f"{sentence:<54}{answers.rstrip()}")
    answers = "".join(f"{numbers['links_left_of_crossing_dials'][variant]:<11}"
                      for variant in VARIANTS)
    print(f"{'links left of two dials that cross, both ends guarded':<54}{answers.rstrip()}")

    print()
    print(f"{'WHAT IT COSTS':<28}{'nothing':<13}{'nftables':<26}connguard")
    for name, sentence in COSTS.items():
        line = f"{sentence:<28}" + \
            f"{numbers['costs'][name]['nothing']['ns']['median'] / 1000:.2f} us".ljust(13)
        for variant in VARIANTS[1:]:
            ratio = numbers["costs"][name][variant]["ratio"]
            line += f"{ratio['median']:.2f} ({ratio['least']:.2f} to {ratio['most']:.2f})".ljust(26)
        print(line.rstrip())
    line = f"{'loading it':<28}{'-':<13}"
    for variant in VARIANTS[1:]:
        load = numbers["load_ms"][variant]
        line += f"{load['median']:.0f} ms ({load['least']:.0f} to {load['most']:.0f})".ljust(26)
    print(line.rstrip())
    print()
    print("Ratios to nothing in the same round: the median (least to most) of "
          f"{numbers['rounds']} rounds, {numbers['connections']} connections of each kind a round.")
    print(f"Linux {numbers['kernel']}, {numbers['processors']} processors.")


def main():
    directory, count, path = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    costs = read_words(directory, "costs")
    complaints = check_refusals(costs, count)
    for complaint in complaints:
        print(f"bench: {complaint}", file=sys.stderr)
    if complaints:
        return 1
    loads = read_words(directory, "loads")
    answers = {(variant, name): answer == "yes"
               for variant, name, answer, _ in read_words(directory, "behaviours")}
    numbers = {
        "kernel": platform.release().split("-")[0],
        "processors": os.cpu_count(),
        "rounds": len({number for number, *_ in costs}),
        "connections": count,
        "behaviours": {name: {variant: answers[variant, name] for variant in VARIANTS}
                       for name in BEHAVIOURS},
        "links_left_of_crossing_dials": {variant: int(number) for variant, _, number
                                         in read_words(directory, "crossing")},
        "costs": summarise_costs(costs),
        "load_ms": {wanted: summarise([float(milliseconds) for _, variant, milliseconds in loads
                                       if variant == wanted])
                    for wanted in VARIANTS[1:]},
    }
    with open(path, "w", encoding="utf-8") as file:
        json.dump(numbers, file, indent=1)
        file.write("\n")
    show(numbers)
    print(f"The numbers are in {path}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
