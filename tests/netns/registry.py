# SPDX-License-Identifier: BSD-2-Clause
"""The list of tests, filled by the decorators below, in the order of the files and of the lines."""

import harness

tests = []


class Test:
    """One test with its parameters."""

    def __init__(self, name, function, arguments):
        self.name = name
        self.function = function
        self.arguments = arguments

    def run(self, lab):
        for feature in getattr(self.function, "needs", ()):
            if feature in harness.lacks:
                raise harness.Skip(f"this kernel lacks {feature}: {harness.lacks[feature]}")
        self.function(lab, *self.arguments)


def test(function):
    """A test: function(lab). Its name is the function's module and name, in words."""
    tests.append(Test(name_of(function), function, ()))
    return function


def each_family(function):
    """function(lab, family), for IPv4, IPv6 and v4-mapped."""
    return each(*harness.FAMILIES)(function)


def each(*values):
    """function(lab, value), for each of the values."""
    def register(function):
        for value in values:
            tests.append(Test(f"{name_of(function)} ({value})", function, (value,)))
        return function
    return register


def needs(*features):
    """Stands below @test or @each: skip where the guard goes without one of these features."""
    def mark(function):
        function.needs = features
        return function
    return mark


def name_of(function):
    module = function.__module__.replace("test_", "", 1)
    return f"{module}: {function.__name__.replace('_', ' ')}"
