#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Nodes and clusters that stop and start: two crossed pairs, each with a client.
# vmpaird: yes
# full: yes
# timeout: 500
# slow: yes
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=../pair.sh
. "$LAB_SRC/pair.sh"
# shellcheck source-path=SCRIPTDIR source=../ops.sh
. "$LAB_SRC/ops.sh"
lab_load

# pcs cluster stop and start have systemd do just this; vmpaird and the VMs' libvirtd are no part of it
cluster_stop() { daemon stop "$1" pacemaker && daemon stop "$1" corosync; }
cluster_start() {
	daemon start "$1" corosync
	wait_for 30 on "$1" corosync-cmapctl -g runtime.votequorum.this_node_id || return 1
	daemon start "$1" pacemaker
}
shut_down() { # in the order that systemd has from the units
	daemon stop "$1" pacemaker && daemon stop "$1" vmpaird && daemon stop "$1" libvirtd && daemon stop "$1" corosync && power_off "$1"
}
all_at_once() { # all_at_once FUNCTION: on all nodes
	local n pids=() pid
	for n in $(lab_all); do
		"$1" "$n" &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do wait "$pid" || return 1; done
}

pairs_crossed

step 'pcs cluster stop of one node'
stays=$(member_pid p1 n2) stays2=$(member_pid p2 n2)
cluster_stop n1
assert no_member p1 n1
assert no_member p2 n1
whole p1
whole p2
same_primary_vm p1 n2 "$stays"
same_primary_vm p2 n2 "$stays2"
gap p1 "$PLANNED_MS"
gap p2 "$PLANNED_MS"
cluster_start n1
wait_for 90 lab_healthy
whole p1
whole p2
same_primary_vm p1 n2 "$stays"
same_primary_vm p2 n2 "$stays2"
gap p1 "$PLANNED_MS"
gap p2 "$PLANNED_MS"

step 'all nodes rebooted, one after the other'
for n in $(lab_all); do
	shut_down "$n"
	gap p1 "$PLANNED_MS"
	gap p2 "$PLANNED_MS"
	power_on "$n"
	wait_for 90 lab_healthy
	whole p1
	whole p2
	log "  $n is back: $(members p1), $(members p2)"
done
gap p1 "$PLANNED_MS"
gap p2 "$PLANNED_MS"

step 'pcs cluster stop and start of all nodes'
all_at_once cluster_stop
for n in $(lab_all); do
	assert no_member p1 "$n"
	assert no_member p2 "$n"
done
all_at_once cluster_start
wait_for 90 lab_healthy
whole p1
whole p2
gap p1 200000
gap p2 200000

step 'power loss of all nodes'
for n in $(lab_all); do power_off "$n"; done
all_at_once power_on
wait_for 120 lab_healthy
whole p1
whole p2
gap p1 200000
gap p2 200000
pairs_end
