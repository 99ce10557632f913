#!/usr/bin/env python3
"""Adds up what ctest's JUnit files say: one count per test case of Catch2 and of unittest, not per
program. Prints the output of what failed, then "N passed, N failed, N skipped".

Usage: count_tests.py [--skipped WHAT]... FILE.xml...   Exits 0 only if nothing failed and every file is
there.
"""
import argparse
import os
import re
import sys
import xml.etree.ElementTree as ElementTree

CATCH_ALL = re.compile(r"All tests passed \(.* in (\d+) test cases?\)")
CATCH_SOME = re.compile(r"^test cases: +(\d+)(.*)$", re.MULTILINE)
UNITTEST = re.compile(r"^Ran (\d+) tests? in", re.MULTILINE)


def number(pattern, text):
    match = re.search(pattern, text)
    return int(match.group(1)) if match else 0


def count(output, ok):
    """(passed, failed, skipped) of one program by its own summary; at least one failed if not ok."""
    passed, failed, skipped = (1, 0, 0) if ok else (0, 1, 0)
    if match := CATCH_ALL.search(output):
        passed, failed = int(match.group(1)), 0
    elif match := CATCH_SOME.search(output):
        failed, skipped = number(r"(\d+) failed", match.group(2)), number(r"(\d+) skipped", match.group(2))
        passed = int(match.group(1)) - failed - skipped
    elif match := UNITTEST.search(output):
        failed = number(r"failures=(\d+)", output) + number(r"errors=(\d+)", output)
        skipped = number(r"skipped=(\d+)", output)
        passed = int(match.group(1)) - failed - skipped
    # A program may die after, or without, a good summary.
    return passed, max(failed, 0 if ok else 1), skipped


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--skipped", action="append", default=[], help="a layer that was not run, and why")
    parser.add_argument("files", nargs="+")
    arguments = parser.parse_args()
    total = [0, 0, 0]
    for path in arguments.files:
        layer = os.path.splitext(os.path.basename(path))[0]
        if not os.path.exists(path):
            print(f"FAILED {layer}: nothing was run")
            total[1] += 1
            continue
        for case in ElementTree.parse(path).getroot().iter("testcase"):
            output = case.findtext("system-out") or ""
            if case.get("status") == "notrun" or case.find("skipped") is not None:
                print(f"skipped {layer} {case.get('name')}")
                counts = (0, 0, 1)
            else:
                counts = count(output, case.get("status") == "run")
            if counts[1]:
                print(f"FAILED {layer} {case.get('name')}:\n{output}")
            total = [a + b for a, b in zip(total, counts)]
    for what in arguments.skipped:
        print(f"skipped {what}")
        total[2] += 1
    print("{} passed, {} failed, {} skipped".format(*total))
    return 1 if total[1] else 0


if __name__ == "__main__":
    sys.exit(main())
