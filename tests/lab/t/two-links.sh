#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Two networks of the cluster, corosync's links 0 and 1: the loss of either is no event for the pair, and status tells which one is silent. The
# loss of both is the loss of the node.
# vmpaird: yes
# links: 2
# shellcheck disable=SC2119 # heal takes no arguments of ours
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=../pair.sh
. "$LAB_SRC/pair.sh"
lab_load

pair_create 1
wait_for 120 pair_whole p1 || fail 'p1 does not become whole'
holder=$(pair_primary p1)
standby=$(pair_standby p1)
epoch=$(pair_epoch p1)
id=$(lab_node_id "$holder")
link_is() { # link_is NODE ADDRESS true|false: what NODE says of another's link
	[ "$(on "$1" vmpair status --output=json | jq --arg a "$2" '.nodes[].links[] | select(.address == $a).heard')" = "$3" ]
}
probe_start "${LAB_ENTRY[0]}"
for plane in c:10.78.0 d:10.79.0; do
	address=${plane#*:}.$id plane=${plane%:*}
	log "network $plane of the primary's node is cut off"
	probe_mark "link-$plane"
	cut_off "$holder" "$plane"
	wait_for 10 link_is "$standby" "$address" false
	on "$standby" vmpair status | find_line "$address SILENT" || fail "status does not show that $address is silent"
	assert sees_node "$standby" "$holder"
	heal
	wait_for 10 link_is "$standby" "$address" true
	assert_eq "$epoch $holder" "$(pair_epoch p1) $(pair_primary p1)" 'epoch and primary'
done

log 'both'
probe_mark node
cut_off "$holder" 'c d'
ASK=$standby
took_over() { [ "$(pair_primary p1)" = "$standby" ]; }
wait_for 15 took_over
heal
wait_for 60 lab_healthy
wait_for 120 pair_whole p1 || fail 'p1 does not become whole'
assert_eq "$standby" "$(pair_primary p1)" 'primary after healing'
probe_stop
log "gaps in ms: $(jq -c '[.segments[] | {(.name): .max_gap_ms}] | add' "$LAB_DIR/probe.json")"
for s in link-c link-d; do assert_le "$(probe_value $s 'max_gap_ms | floor')" 400 "gap of $s, in ms"; done
