#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The simulator can fail: each wrong variant of the protocol that no directed scenario catches (tests/unit/core-directed.sh) is switched on in a
# test build and has to be caught. --all is a table of all of them instead, with what catches each first.
set -u
sim=./tests/sim/sim-bugs runs=${VMP_SIM_BUG_RUNS:-2000} failed=0
[ "${1-}" != --all ] || exec $sim --all-bugs --runs "$runs"
directed=" $("${srcdir:-.}/tests/unit/core-directed.sh" --list) " || exit 1
bugs=$($sim --list-bugs) && [ -n "$bugs" ] || exit 1
for bug in $bugs; do
	case "$directed" in
	*" $bug "*) continue ;;
	esac
	out=$($sim --bug "$bug" --runs "$runs" --first)
	if [ $? -eq 1 ]; then
		echo "ok - $bug: $out"
	else
		echo "not ok - $bug is not caught by $runs schedules: $out"
		failed=1
	fi
done
exit $failed
