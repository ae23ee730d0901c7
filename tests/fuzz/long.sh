#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Long fuzzing: long.sh [MINUTES [TARGET...]], each target for so many minutes of processor time (default 30), VMP_FUZZ_JOBS at a time (default 1).
# Starts from tests/fuzz/corpus, goes on with what earlier runs in this build directory found worth keeping (./fuzz-corpus). A line for each:
# what ran for how long, how often. A finding ends its target; the input is kept in ./fuzz-corpus. Interrupted, it goes on where it was, as long
# as the target has not been built anew. An input may take 60 s by the clock, since machines that fuzz do other things as well.
top=$(cd "$(dirname "$0")/../.." && pwd) work=$PWD/fuzz-corpus

if [ "${1-}" = --one ]; then # for xargs below
	name=$3 left=$(($2 * 60)) used=0 units=0 before=0
	mkdir -p "$work/$name"
	if [ -n "$(find "$work/$name.done" -newer "./tests/fuzz/fuzz_$name" 2>/dev/null)" ]; then
		read -r before units < "$work/$name.done"
		used=$before
	fi
	while [ "$used" -lt "$left" ]; do
		slice=$((left - used < 60 ? left - used : 60))
		rc=0
		"./tests/fuzz/fuzz_$name" -max_total_time="$slice" -timeout=60 -print_final_stats=1 -artifact_prefix="$work/$name-" \
			"$work/$name" "$top/tests/fuzz/corpus/$name" > "$work/$name.log" 2>&1 || rc=$?
		units=$((units + $(sed -n 's/^stat::number_of_executed_units: *//p' "$work/$name.log" | tail -n 1)))
		if [ $rc -ne 0 ]; then
			echo "fuzz_$name: FINDING after $units executions, see $work/$name.log"
			rm -f "$work/$name.done"
			exit 1
		fi
		# user and system time of what was waited for; in a pipe `times` would tell of a new process
		times > "$work/$name.times"
		used=$((before + $(awk 'NR == 2 {for (i = 1; i <= 2; i++) {split($i, t, "m"); s += t[1] * 60 + t[2]} printf "%d\n", s}' "$work/$name.times")))
		echo "$used $units" > "$work/$name.done"
	done
	rm -f "$work/$name.done" "$work/$name.times"
	echo "fuzz_$name: $units executions in $used s of processor time, no finding"
	exit 0
fi

minutes=${1:-30}
[ $# -eq 0 ] || shift
case "$minutes" in
'' | *[!0-9]* | 0) echo 'usage: tests/fuzz/long.sh [MINUTES [TARGET...]]' >&2; exit 2 ;;
esac
if [ $# -eq 0 ]; then
	for t in ./tests/fuzz/fuzz_*; do
		case "$t" in
		*.* | *'*') ;;
		*) [ ! -x "$t" ] || set -- "$@" "${t##*/fuzz_}" ;;
		esac
	done
fi
[ $# -gt 0 ] || { echo 'no fuzz target here: configure with --enable-fuzzers --enable-sanitizers CC=clang' >&2; exit 2; }
mkdir -p "$work"
printf '%s\n' "$@" | xargs -P "${VMP_FUZZ_JOBS:-1}" -I{} "$0" --one "$minutes" {}
