# SPDX-License-Identifier: BSD-2-Clause
"""The project's own rules on source files, for scripts/lint.sh.

Reads file names from standard input, one a line, relative to the top of the tree; prints
"file:line: message" for each finding and exits 1 when there is any. It knows the layout of the tree
and nothing of what the code does.
"""

import os
import re
import sys

SPDX = "SPDX-License-Identifier: "
BOTH_LICENCES = "GPL-2.0-only OR BSD-2-Clause"
OWN_LICENCE = "BSD-2-Clause"
# The files that must name their licence: sources, not prose, data or pictures.
SOURCE = re.compile(r"(\.(c|h|pml|py|sh|bash|js|go|[1-9]|service|example)|(^|/)Makefile|^\.ci/run)$")
TEXT = re.compile(r"(\.(c|h|pml|py|sh|bash|js|go|[1-9]|service|example|md|conf)|(^|/)Makefile|^\.ci/run)$")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')

# Only these files of userspace speak to libbpf and see the programs.
KERNEL_EDGE = re.compile(r"user/edge/kernel(_[a-z]+)?\.c")
KERNEL_PARTS = "edge/kernel_parts.h"
SKELETON = "bpf/connguard.skel.h"

# Who in user/ may include whom: inward only, and the two programs know nothing of each other.
LAYERS = {
    "base": {"base"},
    "pure": {"base", "pure"},
    "edge": {"base", "pure", "edge"},
    "connguardd": {"base", "pure", "edge", "connguardd"},
    "connguard": {"base", "pure", "edge", "connguard"},
}
# The model names the functions that its steps stand for, in comments: "rules: NAME(), NAME()" and
# "rules left out: NAME()" to the end of the paragraph, "NAME() of user/FILE.c" elsewhere.
RULES = "include/connguard/rules.h"
MODEL = "tests/model/"
COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
RULES_NAMED = re.compile(r"rules(?: left out)?:((?:.|\n(?! \*\s*\n))*)")
USER_NAMED = re.compile(r"((?:\w+\(\)(?: and |, )?)+)\s+of\s+(user/[\w/]+\.[ch])")
NAME = re.compile(r"(\w+)\(\)")

# What the README promises for the case that something goes wrong, and what it says of limits, each with patterns that
# pick the tests which try it.
README = "README.md"
PROMISES = "## When things go wrong"
LIMITS = "## Limits"
PATTERN = re.compile(r"`([^`]+)`")
PATTERN_LAST = re.compile(r"\| (`[^`]+`) \|$")
TRIED_LAST = re.compile(r"<!-- (?:tried by (`[^`]+`(?:, `[^`]+`)*)(?:; not tried: [^`]+)?|not tried: [^`]+) -->$")
# Where tests have names: the files, of which a part is in what comes before the name, and how a name is given.
NAMESPACE_TEST = r"^@(?:test|each\w*)\b.*\n(?:@.*\n)*def (\w+)\("
C_TEST = r"\b(?:TEST|cmocka_unit_test\w*)\((?!name\b)(\w+)"
TESTS = [
    (r"tests/netns/test_(\w+)\.py", NAMESPACE_TEST),
    (r"tests/(bpf/\w+|unit/\w+)\.c", C_TEST),
    (r"tests/(vm/\w+)\.sh", r"^\s*(?:expect|result) '([^']+)'"),
    (r"tests/(model)/variants\.py", r"^(?:holds|edge)\(\"([^\"]+)\""),
]

# Layers that must stay free of the event loop, through whatever they include as well.
NO_EVENT_LOOP = {"pure", "connguard"}

findings = 0


def report(path, line, message):
    global findings
    findings += 1
    print(f"{path}:{line}: {message}")


def expected_licence(path):
    return BOTH_LICENCES if path.startswith(("bpf/", "include/")) else OWN_LICENCE


def check_licence(path, lines):
    expected = expected_licence(path)
    for number, line in enumerate(lines[:2], 1):
        if SPDX in line:
            found = line.split(SPDX, 1)[1].replace("*/", "").replace("-->", "").strip()
            if found != expected:
                report(path, number, f"licence is '{found}', expected '{expected}' here")
            return
    report(path, 1, f"no '{SPDX}{expected}' in the first line (or the second, after #!)")


def check_white_space(path, text, lines):
    if "\r" in text:
        report(path, text[: text.index("\r")].count("\n") + 1, "carriage return")
    if text and not text.endswith("\n"):
        report(path, len(lines), "no newline at the end of the file")
    if text.endswith("\n\n"):
        report(path, len(lines), "empty line at the end of the file")
    for number, line in enumerate(lines, 1):
        # Two blanks at the end of a line are a line break in Markdown.
        if line != line.rstrip() and not (path.endswith(".md") and line.endswith("  ")):
            report(path, number, "white space at the end of the line")
        indent = line[: len(line) - len(line.lstrip())]
        if " \t" in indent:
            report(path, number, "blank before a tab in the indentation")
        if path.endswith(".py") and "\t" in indent:
            report(path, number, "tab in the indentation of Python")
        if path.endswith((".c", ".h", ".pml")):
            if indent.startswith("        "):
                report(path, number, "indented with blanks, expected tabs")


def includes_of(lines):
    for number, line in enumerate(lines, 1):
        match = INCLUDE.match(line)
        if match:
            yield number, match.group(1) == '"', match.group(2)


def resolve(path, name, places):
    """The file in the tree that an include of `name` in `path` means, or None."""
    for place in [os.path.dirname(path)] + places:
        candidate = os.path.normpath(os.path.join(place, name))
        if os.path.isfile(candidate):
            return candidate
    return None


def check_includes_of_contracts(path, number, quoted, name):
    if quoted and not name.startswith("connguard/"):
        report(path, number, f'include/ includes only system headers and "connguard/...", not "{name}"')
    elif not quoted and name.startswith(("bpf/", "event2/")):
        report(path, number, f"include/ is for both worlds: no library header <{name}>")


def check_includes_of_bpf(path, number, quoted, name):
    if quoted:
        target = resolve(path, name, ["include"])
        if target is None or not target.startswith(("bpf/", "include/")):
            report(path, number, f'bpf/ includes only bpf/ and include/, not "{name}"')


def check_includes_of_user(path, number, quoted, name):
    if name == SKELETON or (not quoted and name.startswith("bpf/")):
        if not KERNEL_EDGE.fullmatch(path):
            report(path, number, f"only user/edge/kernel*.c see libbpf and the skeleton, not this <{name}>")
        return
    if name == KERNEL_PARTS and not KERNEL_EDGE.fullmatch(path):
        report(path, number, f'"{name}" is for user/edge/kernel*.c alone')
    if not quoted:
        return
    target = resolve(path, name, ["include", "user"])
    if target is None:
        report(path, number, f'"{name}" is neither in user/ nor in include/')
    elif target.startswith("user/"):
        layer, other = path.split("/")[1], target.split("/")[1]
        if layer in LAYERS and other not in LAYERS[layer]:
            report(path, number, f'user/{layer} must not know user/{other} ("{name}")')
    elif not target.startswith("include/"):
        report(path, number, f'user/ includes only user/ and include/, not "{name}"')


def check_includes_of_applications(path, number, quoted, name):
    target = resolve(path, name, ["include", "user"]) if quoted else None
    if name.startswith("connguard/") or (target and not target.startswith("tests/")):
        report(path, number, f'an application knows nothing of connguard, not even "{name}"')


CHECKS = {
    "include/": check_includes_of_contracts,
    "bpf/": check_includes_of_bpf,
    "user/": check_includes_of_user,
    "tests/racer/": check_includes_of_applications,
    "tests/crossing/": check_includes_of_applications,
}


def reaches_event_loop(path, sources, seen):
    """The chain of files by which `path` includes libevent, or None."""
    seen.add(path)
    for _, quoted, name in includes_of(sources.get(path, [])):
        if name.startswith("event2/") or name == "event.h":
            return [path, f"<{name}>"]
        target = resolve(path, name, ["include", "user"]) if quoted else None
        if target and target not in seen:
            chain = reaches_event_loop(target, sources, seen)
            if chain:
                return [path] + chain
    return None


def check_event_loop(sources):
    for path in sources:
        parts = path.split("/")
        if parts[0] == "user" and len(parts) > 2 and parts[1] in NO_EVENT_LOOP:
            chain = reaches_event_loop(path, sources, set())
            if chain:
                report(path, 1, f"user/{parts[1]} must not see libevent: {' -> '.join(chain)}")


def functions_of(lines):
    """What is defined or declared in C: what is called by a name never begins a line."""
    return {name for line in lines if re.match(r"[A-Za-z_}]", line)
            for name in re.findall(r"(\w+)\(", line)}


def check_model(sources):
    """The model names functions that there are, and every rule that the hooks ask."""
    rules = functions_of(sources.get(RULES, []))
    named = set()
    for path, lines in sources.items():
        if not path.startswith(MODEL):
            continue
        text = "\n".join(lines)
        for comment in COMMENT.finditer(text):
            line = text.count("\n", 0, comment.start()) + 1
            for part in RULES_NAMED.findall(comment.group()):
                for name in NAME.findall(part):
                    named.add(name)
                    if name not in rules:
                        report(path, line, f"{RULES} has no function {name}()")
            for part, file in USER_NAMED.findall(comment.group()):
                for name in NAME.findall(part):
                    if name not in functions_of(sources.get(file, [])):
                        report(path, line, f"{file} has no function {name}()")
    hooks = "\n".join(line for path, lines in sources.items() if path.startswith("bpf/")
                      for line in lines)
    for name in sorted(rules - named):
        if named and re.search(rf"\b{name}\(", hooks):
            report(RULES, 1, f"the hooks ask {name}(), but the model names it neither as a step's rule "
                   "nor as one that is left out")


def tests_of(sources):
    """Names of tests, as the README's patterns pick them: those of namespaces as tests/netns/run.py lists them, others
    with the file in front, as in "bpf/test_ingress: flags" and "model: none guarded"."""
    names = []
    for path, text in sources.items():
        for file, given in TESTS:
            group = re.fullmatch(file, path)
            if group:
                names += [f"{group.group(1)}: {name.replace('_', ' ')}"
                          for name in re.findall(given, text, re.MULTILINE)]
    return names


def bullets_of(lines):
    """The first line's number and the text of each bullet, in one line."""
    found = []
    for number, line in lines:
        if line.startswith("- "):
            found.append((number, line))
        elif line.startswith("  ") and found:
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}")
    return found


def check_promises(sources):
    """Each row of the README's table of troubles, and each of its limits, ends with tests."""
    names = tests_of(sources)
    sections = {PROMISES: [], LIMITS: []}
    section = None
    for number, line in enumerate(sources.get(README, "").split("\n"), 1):
        if line.startswith("## "):
            section = line
        elif section in sections:
            sections[section].append((number, line))

    def check(number, found, expected):
        if not found:
            report(README, number, f"no test is named that tries this, expected {expected}")
            return
        for pattern in PATTERN.findall(found.group(1) or ""):
            if names and not any(re.search(pattern, name) for name in names):
                report(README, number, f"'{pattern}' picks no test")

    for number, line in sections[PROMISES]:
        if line.startswith("| ") and not line.endswith("| tried by |"):
            check(number, PATTERN_LAST.search(line), "`PATTERN` as the last cell")
    for number, text in bullets_of(sections[LIMITS]):
        check(number, TRIED_LAST.search(text),
              "<!-- tried by `PATTERN`, ...; not tried: WHAT AND WHY --> at the end, or one of both")


def main():
    paths = [line.rstrip("\n") for line in sys.stdin if line.strip()]
    sources = {}
    texts = {}
    for path in paths:
        if not TEXT.search(path):
            continue
        with open(path, encoding="utf-8", newline="") as stream:
            try:
                text = stream.read()
            except UnicodeDecodeError as error:
                report(path, 1, f"not UTF-8: {error}")
                continue
        texts[path] = text
        lines = text.split("\n")
        if lines[-1] == "":
            lines.pop()
        if SOURCE.search(path):
            check_licence(path, lines)
        check_white_space(path, text, lines)
        if path.endswith((".c", ".h", ".pml")):
            sources[path] = lines
        if path.endswith((".c", ".h")):
            for directory, check in CHECKS.items():
                if path.startswith(directory):
                    for number, quoted, name in includes_of(lines):
                        check(path, number, quoted, name)
        if path.endswith(".py"):
            try:
                compile(text, path, "exec")
            except SyntaxError as error:
                report(path, error.lineno or 1, f"Python: {error.msg}")
    check_event_loop(sources)
    check_model(sources)
    check_promises(texts)
    return 1 if findings else 0


sys.exit(main())
