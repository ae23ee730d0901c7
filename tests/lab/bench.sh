#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# bench.sh [NAME...] [--runs N] [--json FILE]: runs those scripts of bench/ that measure a wanted metric, each in a lab of
# its own, and prints medians side by side. --json: {"METRIC":{"median":M,"p99":P,"n":N,"unit":"U"}}.
set -uo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

usage() {
	echo "usage: bench [NAME...] [--runs N] [--json FILE]" >&2
	exit 2
}
head_value() { sed -n "s/^# $2: *//p" "$1" | head -n 1; }
metrics() { for b in "$LAB_SRC"/bench/*.sh; do head_value "$b" metrics; done | tr ' ' '\n' | grep .; }

json='' only_usage='' names=()
RUNS=10
while [ $# -gt 0 ]; do
	case "$1" in
	--check-usage) only_usage=yes ;;
	--runs)
		[[ ${2-} =~ ^[1-9][0-9]{0,3}$ ]] || usage
		RUNS=$2
		shift
		;;
	--json)
		[ -n "${2-}" ] || usage
		json=$2
		shift
		;;
	-*) usage ;;
	*) names+=("$1") ;;
	esac
	shift
done
for n in "${names[@]}"; do
	metrics | grep -qE "^${n//./\\.}(\.|$)" || {
		echo "bench: $n is no metric and begins none; there are:" >&2
		metrics | sort | sed 's/^/  /' >&2
		exit 2
	}
done
if [ -n "$json" ] && ! can_write "$json"; then
	echo "bench: $json cannot be written" >&2
	exit 2
fi
[ -z "$only_usage" ] || exit 0
export RUNS BENCH_NAMES="${names[*]}" LAB_ID LAB_BUILD

# shellcheck source=bench/lib.sh
wanted() { # as in bench/lib.sh
	local n
	[ ${#names[@]} -gt 0 ] || return 0
	for n in "${names[@]}"; do [[ $1 != "$n" && $1 != "$n".* ]] || return 0; done
	return 1
}

child=
trap '[ -z "$child" ] || kill -- "-$child" 2> /dev/null; lab_end > /dev/null 2>&1' EXIT
trap 'exit 130' INT TERM
samples=$LAB_BUILD/bench.samples
: > "$samples"
failed=0
for b in "$LAB_SRC"/bench/*.sh; do
	need=no
	for m in $(head_value "$b" metrics); do ! wanted "$m" || need=yes; done
	[ $need = yes ] || continue
	name=$(basename "$b" .sh)
	logs=$LAB_BUILD/lab-logs/bench-$name
	rm -rf "$logs"
	mkdir -p "$logs"
	log "$name: $RUNS runs"
	LAB_NODES=$(head_value "$b" nodes) LAB_VMPAIRD=$(head_value "$b" vmpaird) LAB_LEASE_MS=$(head_value "$b" lease_ms)
	[ -n "$LAB_NODES" ] || unset LAB_NODES
	[ -n "$LAB_VMPAIRD" ] || unset LAB_VMPAIRD
	if [ "$(head_value "$b" lab)" = no ]; then # it makes what it needs itself
		BENCH_NO_LAB=yes setsid "$b" > "$logs/samples" 2> "$logs/bench.log" &
		child=$!
		wait "$child"
		rc=$?
		child=
		if [ $rc -ne 0 ]; then
			failed=1
			log "$name failed; logs: $logs"
			tail -n 5 "$logs/bench.log" >&2
		fi
		cat "$logs/samples" >> "$samples"
		continue
	fi
	apart "$logs/up.log" lab_up
	if [ "$rc" -eq 0 ] && lab_load; then
		setsid "$b" > "$logs/samples" 2> "$logs/bench.log" &
		child=$!
		wait "$child"
		rc=$?
		child=
	else
		rc=1
		cat "$logs/up.log" >&2
	fi
	if [ $rc -ne 0 ]; then
		failed=1
		log "$name failed; logs: $logs"
		tail -n 5 "$logs/bench.log" >&2 2> /dev/null
		lab_logs "$logs"
	elif ! lab_check_bindings > "$logs/bindings.log" 2>&1; then
		failed=1
		log "$name: binding logs:"
		cat "$logs/bindings.log" >&2
	fi
	cat "$logs/samples" >> "$samples" 2> /dev/null
	lab_end
done

result=$(jq -nR '
	[inputs | split(" ") | select(.[0] == "sample") | {m: .[1], unit: .[2], v: (.[3] | tonumber)}]
	| group_by(.m) | map({key: .[0].m, value: (
		(map(.v) | sort) as $s | ($s | length) as $n | {
			median: (if $n % 2 == 1 then $s[($n - 1) / 2] else ($s[$n / 2 - 1] + $s[$n / 2]) / 2 end),
			p99: $s[([($n * 0.99 | ceil), 1] | max) - 1],
			n: $n, unit: .[0].unit})}) | from_entries' "$samples")
[ -z "$json" ] || printf '%s\n' "$result" > "$json"

# one line per event, one column per product
jq -r '
	def cell($m): .[$m] as $v | if $v then "\($v.median * 10 | round / 10) (\($v.p99 * 10 | round / 10)) \($v.unit)" else "-" end;
	select(any(keys[]; test("^(failover|monitor)\\."))) | . as $r |
	["client gap, median (p99)", "vmpair", "VirtualDomain", "IPaddr2", "keepalived 100 ms"],
	["virtual machine killed", cell("failover.vm_kill.vmpair"), cell("failover.vm_kill.virtualdomain"), "", ""],
	["primary\u0027s node cut off", cell("failover.node_cut.vmpair"), "", cell("failover.node_cut.ipaddr2"),
		cell("failover.node_cut.keepalived_100ms")],
	["planned move", cell("failover.switchover.vmpair"), "", cell("failover.switchover.ipaddr2"), ""],
	(("host", "keepalived") as $mode | ["vm_kill", "virtual machine killed"], ["node_cut", "primary\u0027s node cut off"], ["switchover", "planned move"] |
		"failover.\(.[0]).vmpair_\($mode)" as $m | select($r[$m]) | ["\(.[1]), \($mode)", ($r | cell($m)), "", "", ""]),
	["monitor action", cell("monitor.vmpair"), cell("monitor.virtualdomain"), cell("monitor.ipaddr2"), ""]
	| @tsv' <<< "$result" | awk -F '\t' '{printf "%-38s %-24s %-26s %-24s %s\n", $1, $2, $3, $4, $5}'
jq -r '
	def cell($m): .[$m] as $v | if $v then "\($v.median | round) \($v.unit)" else "-" end;
	def share($m): .[$m].median as $v | .["relay.rps.haproxy_http"].median as $h | if $v and $h then "\(100 * $v / $h | round) %" else "-" end;
	select(any(keys[]; test("^relay\\.(rps|latency_1c_us)\\.")))
	| ["relay, median", "64 connections", "of HAProxy", "1 connection"],
	(("direct", "haproxy_http", "haproxy_tcp", "vmpair_sync", "vmpair_degraded") as $n
		| [$n, cell("relay.rps.\($n)"), share("relay.rps.\($n)"), cell("relay.latency_1c_us.\($n)")])
	| @tsv' <<< "$result" | awk -F '\t' '{printf "%-26s %-24s %-26s %s\n", $1, $2, $3, $4}'
jq -r 'to_entries[] | select(.key | (test("^(relay\\.(rps|latency_1c_us)|failover\\.(vm_kill|node_cut|switchover)|monitor)\\.") | not) or endswith(".later"))
	| [.key, "\(.value.median) (\(.value.p99)) \(.value.unit), \(.value.n) samples"] | @tsv' <<< "$result" |
	awk -F '\t' '{printf "%-36s %s\n", $1, $2}'
# What was promised, and whether it was met in this run: said, not enforced, since a busy machine is not vmpair's fault.
for b in "$LAB_SRC"/bench/*.sh; do head_value "$b" limits; done | tr ' ' '\n' | jq -nRr --argjson r "$result" '
	inputs | select(. != "") | split(":") | . as [$m, $which, $max] | $r[$m][$which] | select(. != null) |
	[$m + " " + $which, "at most \($max) \($r[$m].unit)", if . <= ($max | tonumber) then "met" else "NOT met: \(.)" end] | @tsv' |
	awk -F '\t' '{printf "%-36s %-20s %s\n", $1, $2, $3}'
exit $failed
