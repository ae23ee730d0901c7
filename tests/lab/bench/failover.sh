#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# bench/failover.sh [--runs N] [--json FILE]: a pair's failovers as the client sees them, in one lab, N times each.
# Metrics: failover.{vm_kill,node_cut,switchover}.vmpair, failover.bind_after_exit_notice, failover.pacemaker_agreed,
# failover.pacemaker_agreed_node_cut, failover.pacemaker_agreed_membership, monitor.vmpair
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source=../pair.sh disable=SC2154
. "$LAB_SRC/pair.sh"

runs=10 json=
while [ $# -gt 0 ]; do
	case "$1" in
	--runs) runs=$2 ;;
	--json) json=$2 ;;
	*) echo "usage: failover.sh [--runs N] [--json FILE]" >&2; exit 2 ;;
	esac
	shift 2
done
end() {
	local rc=$?
	trap - EXIT
	[ $rc -eq 0 ] || lab_logs "$LAB_BUILD/lab-logs/bench-failover" || true
	lab_down
	exit $rc
}
values=$(mktemp)
record() { echo "$1 $2" >> "$values"; } # record METRIC VALUE_MS

why_json() { # why_json PAIR: the last change, once it holds an "agreed" event
	on "$(a_node)" vmpair why --output=json "$1"
}
why_agreed() { why_json "$1" | jq -e --arg n "$2" '[.events[] | select(.what == "agreed" and .node == $n)] | length > 0' > /dev/null; }

lab_build
trap 'end; rm -f "$values"' EXIT
lab_up
pair_create 1
wait_for 120 pair_whole p1 || fail "the pair did not come up"
probe_start "${LAB_ENTRY[0]}"

one() { # one EVENT RUN
	"event_$1" p1 "$1-$2"
	wait_for 10 why_agreed p1 "$new_primary" || fail "no 'agreed' in vmpair why"
	why_json p1 > "$LAB_DIR/why.json"
	case "$1" in
	vm_kill)
		record failover.pacemaker_agreed "$agreed_ms"
		record failover.bind_after_exit_notice "$(jq '([.events[] | select(.what == "bound")][-1].t_ms) - ([.events[] | select(.what == "cause")][0].t_ms)' "$LAB_DIR/why.json")"
		;;
	node_cut)
		record failover.pacemaker_agreed_node_cut "$agreed_ms"
		record failover.pacemaker_agreed_membership "$(agreed_after_membership)"
		heal
		;;
	switchover) record failover.pacemaker_agreed "$agreed_ms" ;;
	esac
	probe_mark "after $1-$2"
	wait_for 120 pair_whole p1 || fail "after $1 (run $2) the pair did not become whole"
	log "$1 run $2: $old_primary -> $new_primary, Pacemaker agreed after $agreed_ms ms"
}
agreed_after_membership() { # from corosync's new membership on the new primary to Pacemaker's promote there
	on "$new_primary" vmpair events --output=json | jq -s --arg n "$new_primary" '
		(if (.[0] | type) == "object" and (.[0] | has("events")) then .[0].events else . end)
		| ([.[] | select(.what == "quorum" or .what == "membership")][-1].ts) as $m
		| ([.[] | select(.what == "agreed" and .pair == "p1")][-1].ts) - $m'
}

for e in vm_kill switchover node_cut; do
	for r in $(seq "$runs"); do one "$e" "$r"; done
done
probe_stop
for e in vm_kill switchover node_cut; do
	for r in $(seq "$runs"); do record "failover.$e.vmpair" "$(probe_value "$e-$r" max_gap_ms)"; done
done
node=$(pair_standby p1)
for r in $(seq 20); do
	record monitor.vmpair "$(on "$node" env OCF_ROOT=/usr/lib/ocf OCF_RESOURCE_INSTANCE=p1 OCF_RESKEY_pair=p1 \
		OCF_RESKEY_domain=/etc/vmpair/p1.xml OCF_RESKEY_entry=10.77.0.101/24 OCF_RESKEY_entry_nic=br-entry \
		OCF_RESKEY_CRM_meta_interval=11000 OCF_RESKEY_CRM_meta_timeout=20000 OCF_RESKEY_CRM_meta_role=Slave \
		bash -c 't0=${EPOCHREALTIME/./}; /usr/lib/ocf/resource.d/vmpair/pair monitor; echo $((${EPOCHREALTIME/./} - t0))' |
		awk '{print $1 / 1000}')"
done
lab_check_bindings

sort "$values" | awk '
	function flush(  i, m, p) {
		if (!n) return
		for (i = 1; i <= n; i++) for (j = i + 1; j <= n; j++) if (v[j] < v[i]) {t = v[i]; v[i] = v[j]; v[j] = t}
		m = n % 2 ? v[(n + 1) / 2] : (v[n / 2] + v[n / 2 + 1]) / 2
		p = v[int(n * 0.99 + 0.999)]
		printf "%s\"%s\":{\"median\":%.2f,\"p99\":%.2f,\"n\":%d,\"unit\":\"ms\"}", sep, key, m, p, n
		sep = ","
	}
	BEGIN {printf "{"}
	$1 != key {flush(); key = $1; n = 0}
	{v[++n] = $2 + 0}
	END {flush(); print "}"}' > "$LAB_DIR/failover.json"
jq -r 'to_entries[] | "\(.key)\t\(.value.median)\t\(.value.p99)\t\(.value.n)"' "$LAB_DIR/failover.json" |
	awk -F'\t' 'BEGIN {printf "%-42s %10s %10s %4s\n", "metric, ms", "median", "p99", "n"} {printf "%-42s %10s %10s %4s\n", $1, $2, $3, $4}'
[ -z "$json" ] || cp "$LAB_DIR/failover.json" "$json"
