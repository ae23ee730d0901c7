#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# run-tests.sh [--quick | --full | TEST...]: runs tests/lab/t/*.sh, each in a lab of its own, and prints TAP. Lines of a test's head:
#   # nodes: N        size of its lab (3)          # vmpaird: no    vmpaird is not started
#   # witness: yes    one node more: a witness     # slow: yes      left out with --quick
#   # timeout: S      the test may take (300)         # links: 2      two networks of the cluster
#   # lease_ms: N     of its nodes (500)           # full: yes      only with --full, or by name
# After each test no two entries may have been open at once, and nothing of the lab may be left: either is final. A test that fails
# otherwise is tried a second time and says so, because three clusters' worth of software on two cores do not always keep a test's time.
set -uo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

head_value() { sed -n "s/^# $2: *//p" "$1" | head -n 1; }

down() { # errors of the teardown are findings, not reasons to stop
	lab_end > "$logs/down.log" 2>&1
}
# Tests are about what happens, not how fast: a longer lease rides out the pauses of a machine that does other things as well.
export LAB_LEASE_MS=${LAB_LEASE_MS:-500}

# A lab has to be up in 90 s where the machine has nothing else to do (5 s are usual); it may take longer where it has.
UP_S=90 UP_LATE_S=120

child=
trap '[ -z "$child" ] || kill "$child" 2> /dev/null; lab_end > /dev/null 2>&1' EXIT
trap 'exit 130' INT TERM

run_one() { # prints what went wrong; status of the test
	local rc lease took
	export LAB_ID LAB_BUILD LAB_WITNESS LAB_LINKS
	LAB_NODES=$(head_value "$1" nodes) LAB_VMPAIRD=$(head_value "$1" vmpaird)
	lease=$(head_value "$1" lease_ms) LAB_WITNESS=$(head_value "$1" witness) LAB_LINKS=$(head_value "$1" links)
	local LAB_LEASE_MS=${lease:-$LAB_LEASE_MS}
	[ -n "$LAB_NODES" ] || unset LAB_NODES
	[ -n "$LAB_VMPAIRD" ] || unset LAB_VMPAIRD
	uptime_ms; took=$REPLY
	apart "$logs/up.log" lab_up
	if [ "$rc" -ne 0 ]; then
		echo 'the lab did not come up'
		tail -n 5 "$logs/up.log"
		lab_load 2> /dev/null && lab_logs "$logs" 2> /dev/null
		return 1
	fi
	uptime_ms; took=$((REPLY - took))
	[ $took -le $((UP_S * 1000)) ] || echo "the lab was up after $((took / 1000)) s, wanted: $UP_S s"
	[ $took -le $((UP_LATE_S * 1000)) ] || return 1
	lab_load
	# in the background, so that a signal to the runner does not wait for the test
	timeout -k 10 "$limit" "$1" > "$logs/test.log" 2>&1 &
	child=$! # timeout leads a process group
	wait "$child"
	rc=$?
	child=
	[ $rc -ne 124 ] || echo "it did not end within $limit s"
	if ! lab_check_bindings > "$logs/bindings.log" 2>&1; then
		echo 'binding logs:'
		head -n 5 "$logs/bindings.log"
		rc=3 # never tried again
	fi
	if [ $rc -ne 0 ] && [ $rc -ne 77 ]; then
		tail -n 15 "$logs/test.log"
		lab_logs "$logs" 2> /dev/null
	fi
	return $rc
}

attempt() { # attempt TEST: sets rc and said
	local left
	mkdir -p "$logs"
	run_one "$1" > "$logs/said"
	rc=$?
	said=$(< "$logs/said")
	down
	left=$(lab_leftovers 2> /dev/null)
	if [ -n "$left" ]; then
		said+=$'\nleft behind:\n'$left
		rc=3
	fi
}

if [ $# -eq 0 ] || [ "$1" = --quick ] || [ "$1" = --full ]; then
	which=${1-}
	set --
	for t in "$LAB_SRC"/t/*.sh; do
		[ "$which" = --full ] || [ "$(head_value "$t" full)" != yes ] || continue
		[ "$which" != --quick ] || [ "$(head_value "$t" slow)" != yes ] || continue
		set -- "$@" "$t"
	done
fi
echo "1..$#"
n=0 failed=0
for t; do
	n=$((n + 1))
	[[ $t == */* ]] || t=$LAB_SRC/t/${t%.sh}.sh
	name=$(basename "$t" .sh)
	limit=$(head_value "$t" timeout)
	limit=${limit:-300}
	rm -rf "$LAB_BUILD/lab-logs/$name" "$LAB_BUILD/lab-logs/$name.first"
	logs=$LAB_BUILD/lab-logs/$name
	uptime_ms; t0=$REPLY
	attempt "$t"
	again=
	if [ $rc -ne 0 ] && [ $rc -ne 77 ] && [ $rc -ne 3 ]; then
		printf '# %s\n' "first attempt of lab/$name:" "${said//$'\n'/$'\n# '}"
		mv "$logs" "$logs.first"
		again=", second attempt; logs of the first: $logs.first"
		attempt "$t"
	fi
	uptime_ms
	took="$(((REPLY - t0) / 1000)).$(((REPLY - t0) % 1000 / 100)) s"
	case $rc in
	0)
		echo "ok $n - lab/$name ($took$again)"
		[ -z "$said" ] || printf '# %s\n' "${said//$'\n'/$'\n# '}"
		;;
	77) echo "ok $n - lab/$name # SKIP $(tail -n 1 "$logs/test.log")" ;;
	*)
		echo "not ok $n - lab/$name ($took; logs: $logs$again)"
		printf '# %s\n' "${said//$'\n'/$'\n# '}"
		failed=1
		;;
	esac
done
exit $failed
