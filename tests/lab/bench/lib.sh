# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
# For scripts in tests/lab/bench/. Each runs in a lab of its own (heads as in run-tests.sh, and "# metrics: NAME..."; "# lab: no": without one),
# takes $RUNS samples of each of its metrics that `wanted` names, and prints them with `sample` as it goes.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
[ -n "${BENCH_NO_LAB-}" ] || lab_load
: "${RUNS:=10}"

sample() { echo "sample $1 $2 $3"; } # sample METRIC UNIT VALUE
wanted() {                           # wanted METRIC: no names given, or one of them is the metric or begins it
	local n
	[ -n "${BENCH_NAMES-}" ] || return 0
	for n in $BENCH_NAMES; do
		[[ $1 != "$n" && $1 != "$n".* ]] || return 0
	done
	return 1
}
random_delay() { sleep "$((RANDOM % $1)).$((RANDOM % 900 + 100))"; } # up to SECONDS: hit pollers in any phase

rsc_node() { # rsc_node ASKED RESOURCE: where it runs
	on "$1" crm_resource -W -r "$2" 2> /dev/null | awk '/is running on:/ {print $6}'
}
wait_gap() { # wait_gap SECONDS MS: since the last mark a gap of MS or more has ended
	wait_for "$1" eval "probe_since_mark | awk '\$1 == \"gap\" && \$4 >= $2 && \$6 != \"-\" {found = 1} END {exit !found}'"
}
# sample_gaps METRIC SEGMENT_PREFIX [LATER_METRIC]: of each such segment of the finished probe the time from the last answer of the one
# who answered before to the first of another; the longest gap where the same one came back. LATER_METRIC: the longest gap after that.
sample_gaps() {
	jq -r --arg p "$2" --arg m "$1" --arg l "${3-}" '.segments[] | select(.name | startswith($p)) |
		"\($m) \(.change_ms // .max_gap_ms)", if $l != "" and .later_gap_ms then "\($l) \(.later_gap_ms)" else empty end' \
		"$LAB_DIR/probe.json" | while read -r metric ms; do sample "$metric" ms "$ms"; done
}
bench_monitor() { # bench_monitor METRIC NODE AGENT NAME=VALUE...: duration of the agent's monitor action
	local metric=$1 node=$2 agent=$3
	shift 3
	# shellcheck disable=SC2016 # expanded inside the node
	on "$node" env OCF_ROOT=/usr/lib/ocf OCF_RA_VERSION_MAJOR=1 OCF_RA_VERSION_MINOR=1 "$@" bash -c '
		for ((i = 0; i < '"$((RUNS * 3))"'; i++)); do
			t0=${EPOCHREALTIME/./}
			'"/usr/lib/ocf/resource.d/$agent"' monitor > /dev/null 2>&1
			rc=$?
			t1=${EPOCHREALTIME/./}
			[ $rc = 0 ] || [ $rc = 8 ] || { echo "monitor says $rc" >&2; exit 1; }
			echo $((t1 - t0))
		done' | while read -r us; do sample "$metric" ms "$((us / 1000)).$(printf %03d $((us % 1000)))"; done
}
