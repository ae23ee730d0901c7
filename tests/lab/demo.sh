#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# demo.sh [--json FILE] [--check-usage]: a pair made by pcs on three nodes; its VM is killed, its node cut off, it is moved by vmpair and by pcs,
# and a client that asks every 2 ms says what it noticed. ./run.sh demo installs and builds first.
# shellcheck disable=SC2154 # what events set
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source-path=SCRIPTDIR source=pair.sh
. "$LAB_SRC/pair.sh"

json='' only_usage=''
while [ $# -gt 0 ]; do
	case "$1" in
	--check-usage) only_usage=yes ;;
	--json)
		[ -n "${2-}" ] || { echo "usage: demo [--json FILE]" >&2; exit 2; }
		json=$2
		shift
		;;
	*)
		echo "usage: demo [--json FILE]" >&2
		exit 2
		;;
	esac
	shift
done
if [ -n "$json" ] && ! can_write "$json"; then
	echo "demo: $json cannot be written" >&2
	exit 2
fi
[ -z "$only_usage" ] || exit 0
begun=$SECONDS
end() {
	local rc=$?
	trap - EXIT
	[ $rc -eq 0 ] || lab_logs "$LAB_BUILD/lab-logs/demo" || true
	lab_end
	exit $rc
}
step() { printf '\n== %s\n' "$*"; }

trap end EXIT
step "Three nodes: corosync, libvirtd, vmpaird, pacemaker on each"
lab_up
step "A pair, made by: pcs resource create p1 ocf:vmpair:pair ..."
pair_create 1
wait_for 120 pair_whole p1 || fail "the pair did not come up"
on n1 vmpair status
probe_start "${LAB_ENTRY[0]}"
events=(vm_kill node_cut switchover pcs_move)
texts=("the primary's qemu killed" "the primary's node cut off" "vmpair switchover p1" "pcs resource move p1-clone")
rows=()
for i in "${!events[@]}"; do
	e=${events[i]}
	step "${texts[i]}"
	"event_$e" p1 "$e"
	echo "$old_primary -> $new_primary, Pacemaker agreed after $agreed_ms ms"
	[ "$e" != vm_kill ] || on "$new_primary" vmpair why p1 | tee "$LAB_DIR/why.txt"
	if [ "$e" = node_cut ]; then
		heal "$old_primary"
		wait_for 120 lab_settled || fail 'the cluster did not settle after the node came back'
	fi
	wait_for 120 pair_whole p1 || fail "after $e the pair did not become whole"
	probe_mark "after $e"
	rows+=("$e $old_primary $new_primary $agreed_ms")
done
probe_stop
step "No two nodes had the entry open at once (binding logs of all nodes)"
lab_check_bindings

step "What the client noticed (a request every 2 ms)"
printf '%-28s %10s %10s %22s %6s %15s\n' event "gap, ms" "moved to" "Pacemaker agreed, ms" lost "later gaps, ms"
out=
for i in "${!events[@]}"; do
	read -r e _ to agreed <<< "${rows[i]}"
	gap=$(probe_value "$e" 'change_ms | . * 10 | round / 10')
	later=$(probe_value "$e" 'later_gap_ms | . * 10 | round / 10')
	lost=$(probe_value "$e" lost)
	printf '%-28s %10s %10s %22s %6s %15s\n' "${texts[i]}" "$gap" "$to" "$agreed" "$lost" "$later"
	out+="${out:+,}{\"name\":\"$e\",\"gap_ms\":$gap,\"later_gap_ms\":$later,\"lost\":$lost,\"new_primary\":\"$to\",\"pacemaker_agreed_ms\":$agreed}"
done
echo "(Pacemaker agreed: from the event; of pcs resource move, which takes seconds before it changes anything, from Pacemaker's demote."
echo " gap: from the last answer of the old primary to the first of the new one. lost: requests without an answer until the pair was"
echo " whole again. later gaps: the longest one in that time, while a VM boots and all nodes share this machine's $(nproc) processors)"
[ -z "$json" ] || printf '{"events":[%s]}\n' "$out" > "$json"
echo "demo: $((SECONDS - begun)) s"
