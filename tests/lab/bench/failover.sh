#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A pair's failovers as the client sees them, and when Pacemaker agreed. failover.pacemaker_agreed: from the event (VM killed,
# planned move) until Pacemaker shows the new primary; ..._node_cut: from the cut; ..._membership: from corosync's new membership.
# metrics: failover.vm_kill.vmpair failover.node_cut.vmpair failover.switchover.vmpair failover.bind_after_exit_notice failover.pacemaker_agreed failover.pacemaker_agreed_node_cut failover.pacemaker_agreed_membership monitor.vmpair
# vmpaird: yes
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source-path=SCRIPTDIR source=../pair.sh
. "$LAB_SRC/pair.sh"

why_json() { on "$(a_node)" vmpair why --output=json "$1"; } # why_json PAIR: the last change
why_agreed() { why_json "$1" | jq -e --arg n "$2" '[.events[] | select(.what == "agreed" and .node == $n)] | length > 0' > /dev/null; }
agreed_after_membership() { # from corosync's new membership on the new primary to Pacemaker's promote there
	on "$new_primary" vmpair events --output=json | jq -s '
		(if (.[0] | type) == "object" and (.[0] | has("events")) then .[0].events else . end)
		| ([.[] | select(.what == "quorum" or .what == "membership")][-1].ts) as $m
		| ([.[] | select(.what == "agreed" and .pair == "p1")][-1].ts) - $m'
}

pair_create 1
wait_for 120 pair_whole p1 || fail 'the pair did not come up'

if wanted monitor.vmpair; then
	bench_monitor monitor.vmpair "$(pair_standby p1)" vmpair/pair OCF_RESOURCE_INSTANCE=p1 OCF_RESKEY_pair=p1 \
		OCF_RESKEY_domain=/etc/vmpair/p1.xml OCF_RESKEY_entry="${LAB_ENTRY[0]}/24,${LAB_ENTRY6[0]}/64" \
		OCF_RESKEY_entry_nic=br-entry OCF_RESKEY_internal_net="$(pair_net 1)/24@br-int" OCF_RESKEY_ready=http:80/ \
		OCF_RESKEY_CRM_meta_interval=11000 OCF_RESKEY_CRM_meta_timeout=20000 OCF_RESKEY_CRM_meta_role=Unpromoted
fi

probe_start "${LAB_ENTRY[0]}"
one() { # one EVENT RUN
	"event_$1" p1 "$1-$2"
	wait_for 10 why_agreed p1 "$new_primary" || fail "no 'agreed' in vmpair why"
	why_json p1 > "$LAB_DIR/why.json"
	case "$1" in
	vm_kill)
		sample failover.pacemaker_agreed ms "$agreed_ms"
		sample failover.bind_after_exit_notice ms "$(jq '([.events[] | select(.what == "bound")][-1].t_ms) -
			([.events[] | select(.what == "cause")][0].t_ms)' "$LAB_DIR/why.json")"
		;;
	node_cut)
		sample failover.pacemaker_agreed_node_cut ms "$agreed_ms"
		sample failover.pacemaker_agreed_membership ms "$(agreed_after_membership)"
		event_heal
		;;
	switchover) sample failover.pacemaker_agreed ms "$agreed_ms" ;;
	esac
	probe_mark "after $1-$2"
	wait_for 120 pair_whole p1 || fail "after $1 (run $2) the pair did not become whole"
	log "$1 run $2: $old_primary -> $new_primary, Pacemaker agreed after $agreed_ms ms"
}
events=()
for e in vm_kill switchover node_cut; do
	need=no
	! wanted "failover.$e.vmpair" || need=yes
	case "$e" in
	vm_kill) ! wanted failover.pacemaker_agreed && ! wanted failover.bind_after_exit_notice || need=yes ;;
	switchover) ! wanted failover.pacemaker_agreed || need=yes ;;
	node_cut) ! wanted failover.pacemaker_agreed_node_cut && ! wanted failover.pacemaker_agreed_membership || need=yes ;;
	esac
	[ $need = no ] || events+=("$e")
done
for e in "${events[@]}"; do
	for ((r = 1; r <= RUNS; r++)); do one "$e" "$r"; done
done
probe_stop
for e in "${events[@]}"; do sample_gaps "failover.$e.vmpair" "$e-"; done
