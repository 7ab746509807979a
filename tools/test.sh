#!/bin/bash
# test.sh [ARGUMENTS OF CTEST]: builds, runs every test with its progress on the terminal, writes build/junit.xml, and closes
# with "N passed, N failed", summed over the lines of that form that the tests end with (a test without one counts as 1).
# For a part of the tests: tools/test.sh -L fast, -R test_api, -LE 'mutate|fuzz|sanitize'.
set -u
cd "$(dirname "$0")/.." || exit 2
[ -f build/build.ninja ] || cmake --preset release >/dev/null || exit 1
cmake --build build || exit 1
rm -f build/junit.xml
start=$SECONDS
ctest --test-dir build --parallel 2 --output-on-failure --no-tests=error --test-output-size-passed 1000000 \
    --test-output-size-failed 1000000 --output-junit junit.xml "$@"
status=$?
[ -f build/junit.xml ] || { echo "test: ctest wrote no build/junit.xml"; echo "0 passed, 1 failed"; exit 1; }
python3 - build/junit.xml $((SECONDS - start)) $status <<'PY'
import re, sys, xml.etree.ElementTree as tree

passed = failed = 0
print()
for case in tree.parse(sys.argv[1]).getroot().iter("testcase"):
    if case.get("status") in ("disabled", "notrun") and case.find("failure") is None and case.find("skipped") is not None:
        p, f = 0, 1  # its program is missing: not a pass
    else:
        lines = re.findall(r"^(\d+) passed, (\d+) failed", case.findtext("system-out") or "", re.M)
        p, f = (int(lines[-1][0]), int(lines[-1][1])) if lines else (1, 0)
    if case.find("failure") is not None and f == 0:  # it crashed, or ran out of time
        p, f = (p if p > 1 else 0), 1
    passed, failed = passed + p, failed + f
    print(f"{'FAIL' if f else 'ok  '} {case.get('name'):18} {p:6} passed {f:4} failed {float(case.get('time')):7.1f} s")
print(f"{sys.argv[2]} s in all; the report is {sys.argv[1]}")
print(f"{passed} passed, {failed} failed")
sys.exit(failed > 0 or passed == 0 or int(sys.argv[3]) != 0)
PY
