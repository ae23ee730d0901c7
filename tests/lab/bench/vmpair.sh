#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A pair's failovers as the client sees them, and when Pacemaker agreed: its VM killed, planned hand-overs, its node cut off.
# failover.EVENT.later: the longest gap between the takeover and Pacemaker's agreement (all nodes of the lab share the processors).
# metrics: failover.vm_kill.vmpair failover.switchover.vmpair failover.node_cut.vmpair failover.bind_after_exit_notice failover.pacemaker_agreed failover.pacemaker_agreed_node_cut failover.pacemaker_agreed_membership monitor.vmpair
# limits: failover.vm_kill.vmpair:median:60 failover.switchover.vmpair:median:30 failover.node_cut.vmpair:median:250 failover.bind_after_exit_notice:median:5 failover.pacemaker_agreed:median:1000 failover.pacemaker_agreed:p99:3000 failover.pacemaker_agreed_membership:median:1500 monitor.vmpair:median:5
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source=../pair.sh disable=SC2154
. "$LAB_SRC/pair.sh"

# ENTRY_MODE: of the scripts that measure the same in another entry mode
who=vmpair${ENTRY_MODE:+_$ENTRY_MODE}
only() { [ -z "${ENTRY_MODE-}" ] && wanted "$1"; } # measured in mode bridge only
if [ -n "${ENTRY_MODE-}" ]; then
	PAIR_PARAMS=(entry_mode="$ENTRY_MODE")
	for n in $(lab_all); do
		daemon start "$n" svc
		[ "$ENTRY_MODE" = keepalived ] || continue
		pair_keepalived_conf "$n" 1 > "$LAB_DIR/$n/etc/keepalived/keepalived.conf"
		daemon start "$n" keepalived
	done
fi
pair_create 1 >&2
wait_for 120 pair_whole p1

if only monitor.vmpair; then
	for n in $(lab_all); do [ "$n" = "$(pair_standby p1)" ] && standby=$n; done
	bench_monitor monitor.vmpair "$standby" vmpair/pair OCF_RESOURCE_INSTANCE=p1 OCF_RESKEY_pair=p1 \
		OCF_RESKEY_domain=/etc/vmpair/p1.xml OCF_RESKEY_entry="${LAB_ENTRY[0]}/24" OCF_RESKEY_entry_nic=br-entry \
		OCF_RESKEY_CRM_meta_interval=11000 OCF_RESKEY_CRM_meta_timeout=20000
fi

why_json() { on "$new_primary" vmpair why --output=json p1; }
why_agreed() { why_json | jq -e --arg n "$new_primary" 'any(.events[]; .what == "agreed" and .node == $n)' > /dev/null; }
exit_to_bound() { # milliseconds from the news that the VM has ended to the entry being bound on the new primary
	why_json | jq -e --arg n "$new_primary" '
		[.events[] | select(.what == "bound" and .node == $n)][-1] as $bound |
		[.events[] | select(.what == "cause" and .t_ms <= $bound.t_ms)][-1] as $cause | $bound.t_ms - $cause.t_ms'
}
since_membership() { # from the node's news of the new membership to Pacemaker's promote there
	on "$new_primary" vmpair events --output=json | jq -s --arg n "$new_primary" '
		[.[] | if has("events") then .events[] else . end | select(.node == $n)] |
		([.[] | select(.what == "agreed")][-1].ts) - ([.[] | select(.what == "quorum" or .what == "membership")][-1].ts)'
}
again() { # again EVENT: once, and whole again after it; the survivor is not stopped for it
	local pid
	survivor=$(pair_standby p1)
	pid=$(vm_pid "$survivor" p1)
	"event_$1" p1 "$1 $i"
	wait_for 10 why_agreed
	case "$1" in
	vm_kill)
		if only failover.bind_after_exit_notice; then
			ms=$(exit_to_bound) || fail "no exit and binding in: $(why_json)"
			sample failover.bind_after_exit_notice ms "$ms"
		fi
		! only failover.pacemaker_agreed || sample failover.pacemaker_agreed ms "$agreed_ms"
		;;
	switchover) ! only failover.pacemaker_agreed || sample failover.pacemaker_agreed ms "$agreed_ms" ;;
	node_cut)
		! only failover.pacemaker_agreed_node_cut || sample failover.pacemaker_agreed_node_cut ms "$agreed_ms"
		! only failover.pacemaker_agreed_membership || sample failover.pacemaker_agreed_membership ms "$(since_membership)"
		heal "$old_primary"
		wait_for 120 lab_settled
		;;
	esac
	probe_mark "whole again $i"
	wait_for 120 pair_whole p1
	assert_eq "$pid" "$(vm_pid "$survivor" p1)" "$1 $i: process of the survivor's VM"
}

probe_start "${LAB_ENTRY[0]}"
for ((i = 1; i <= RUNS; i++)); do
	if wanted "failover.vm_kill.$who" || only failover.bind_after_exit_notice || only failover.pacemaker_agreed; then
		again vm_kill
	fi
	if wanted "failover.switchover.$who" || only failover.pacemaker_agreed; then again switchover; fi
	if wanted "failover.node_cut.$who" || only failover.pacemaker_agreed_node_cut || only failover.pacemaker_agreed_membership; then
		again node_cut
	fi
done
probe_stop
for e in vm_kill switchover node_cut; do
	later=
	[ -n "${ENTRY_MODE-}" ] || later=failover.$e.later
	! wanted "failover.$e.$who" || sample_gaps "failover.$e.$who" "$e " "$later"
done
