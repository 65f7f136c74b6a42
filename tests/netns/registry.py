# SPDX-License-Identifier: BSD-2-Clause
"""The list of tests, filled by the decorators below, in the order of the files and of the lines.

Part of them is the core, which is run on every kernel. It has what may differ between kernels: each
rule (the runner sees to it that every cause happens), each hook, both families, dead links, restart
and take-over, adoption. It leaves out what userspace does alone (files, the command line, nonsense
on the control socket) and most repetitions of one point.
"""

import harness

tests = []


class Test:
    """One test with its parameters."""

    def __init__(self, name, function, arguments, core):
        self.name = name
        self.function = function
        self.arguments = arguments
        self.core = core

    def run(self, lab):
        for feature in getattr(self.function, "needs", ()):
            if feature in harness.lacks:
                raise harness.Skip(f"this kernel lacks {feature}: {harness.lacks[feature]}")
        self.function(lab, *self.arguments)

    @property
    def seconds(self):
        """How long it may take, if not as long as all."""
        return getattr(self.function, "seconds", None)


def test(function):
    """A test: function(lab). Its name is the function's module and name, in words."""
    tests.append(Test(name_of(function), function, (), hasattr(function, "core")))
    return function


def each_family(function):
    """function(lab, family), for IPv4, IPv6 and v4-mapped."""
    return each(*harness.FAMILIES)(function)


def each(*values):
    """function(lab, value), for each of the values."""
    def register(function):
        names = [str(value) for value in values]
        marked = getattr(function, "core", None)
        wrong = set(marked or ()) - set(names)
        assert not wrong, f"{name_of(function)}: core names {wrong}, the values are {names}"
        for value, name in zip(values, names):
            core_too = marked is not None and (not marked or name in marked)
            tests.append(Test(f"{name_of(function)} ({name})", function, (value,), core_too))
        return function
    return register


def core(*values):
    """Stands below @test or @each: part of the core, with these values or with all."""
    def mark(function):
        function.core = values
        return function
    return mark


def needs(*features):
    """Stands below @test or @each: skip where the guard goes without one of these features."""
    def mark(function):
        function.needs = features
        return function
    return mark


def takes(seconds):
    """Stands below @test or @each: it may take so long, if not as long as all."""
    def mark(function):
        function.seconds = seconds
        return function
    return mark


def name_of(function):
    module = function.__module__.replace("test_", "", 1)
    return f"{module}: {function.__name__.replace('_', ' ')}"
