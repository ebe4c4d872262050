"""coverage.py EXPORT TABLE - compares what llvm-cov has counted with the table of exceptions.

A gap is a piece of code that is never reached, or a side of a condition that is never taken. The
table has a line for each reason why a function may have gaps: FILE | FUNCTION | HOW MANY | REASON.
HOW MANY is `N`, or `up to N` for those that a busy machine can reach. Prints each function that
has more or fewer gaps, with its gaps, and then the totals. Exit status 1 if there is such a
function.
"""

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

CODE = 0  # llvm-cov's kind of region for code, as opposed to a macro or skipped text


def plain_names(functions):
    """What each function is called in the source, without its parameters."""
    mangled = [function["name"].split(":")[-1] for function in functions]
    text = subprocess.run(
        ["c++filt"], input="\n".join(mangled), stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    for name in text.splitlines():
        name = name.replace("(anonymous namespace)::", "")
        name = re.sub(r"\(.*", "", name)  # a lambda's name goes too: it belongs to its function
        name = re.sub(r"<.*>", "", name)
        yield name.split()[-1]  # a template's name has its return type in front


def count(functions):
    """How often each place was counted: (file, function, line, text, what) -> number."""
    counts = defaultdict(int)
    for function, name in zip(functions, plain_names(functions)):
        files = function["filenames"]

        def add(place, file, what, number):
            path = Path(files[file])
            if path.name in ("daemon.h", "daemon.cpp", "pinglog.cpp"):  # not a system header
                key = (path.name, name, *place[:2], text_of(path, place), what)
                # A template or an inline function can be listed more than once.
                counts[key] = max(counts[key], number)

        for *place, number, file, _, kind in function["regions"]:
            if kind == CODE:
                add(place, file, "is never reached", number)
        for *place, times_true, times_false, file, _, kind in function["branches"]:
            add(place, file, "is never true", times_true)
            add(place, file, "is never false", times_false)
    return counts


def text_of(path, place):
    """The source text at this place, its first line only."""
    first_line, first_column, last_line, last_column = place
    line = path.read_text().splitlines()[first_line - 1]
    return line[first_column - 1 : last_column - 1 if first_line == last_line else None]


def read_table(path):
    """The numbers of gaps that are excepted: (file, function) -> range."""
    excepted = defaultdict(lambda: range(1))
    for line in Path(path).read_text().splitlines():
        file, function, number, _ = line.split(" | ")
        before = excepted[file, function]
        most = int(number.removeprefix("up to "))
        least = 0 if number.startswith("up to ") else most
        excepted[file, function] = range(before.start + least, before.stop + most)
    return excepted


def main(export, table):
    functions = json.loads(Path(export).read_text())["data"][0]["functions"]
    counts = count(functions)
    gaps = defaultdict(list)
    for (file, function, line, column, text, what), number in sorted(counts.items()):
        if number == 0:
            gaps[file, function].append(f"{file}:{line}: {text}: {what}")
    excepted = read_table(table)
    wrong = 0
    for file, function in sorted(set(gaps) | set(excepted)):
        found = gaps[file, function]
        allowed = excepted[file, function]
        if len(found) not in allowed:
            wrong += 1
            print(f"{file} | {function} has {len(found)} gaps, not {allowed.stop - 1}:")
            print("".join(f"    {gap}\n" for gap in found), end="")
    reached = sum(number > 0 for number in counts.values())
    print(f"{reached} of {len(counts)} pieces of code and sides of conditions are reached")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
