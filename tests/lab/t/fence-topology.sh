#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# fence_vmpair beside a power device: at the level after it, and in one level with it.
# vmpaird: yes
# timeout: 500
# full: yes
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=../pair.sh
. "$LAB_SRC/pair.sh"
lab_load

status_is() { # status_is ASKED NODE EXIT-STATUS
	local rc=0
	on "$1" fence_vmpair -o status -n "$2" > /dev/null 2>&1 || rc=$?
	[ $rc = "$3" ]
}
is_off() { [ ! -e "$LAB_DIR/$1.pid" ]; }
power_switch_start
trap power_switch_stop EXIT

log 'both devices'
on n1 pcs stonith create power fence_lab pcmk_host_list="$(lab_all | tr '\n' ' ')" op monitor interval=60s > "$LAB_DIR/pcs.log" 2>&1 ||
	fail "pcs: $(cat "$LAB_DIR/pcs.log")"
on n1 sh "$LAB_TOP/cib-examples/fence.pcs.sh" > "$LAB_DIR/pcs.log" 2>&1 || fail "fence.pcs.sh: $(cat "$LAB_DIR/pcs.log")"
for n in $(lab_all); do
	on n1 pcs stonith level add 1 "$n" power
	on n1 pcs stonith level add 2 "$n" cut
done
pair_create 1
wait_for 120 pair_whole p1
probe_start "${LAB_ENTRY[0]}"

lose() { # lose STATUS: the primary's node is cut off; wants fence_vmpair to say STATUS of it then
	lost=$(pair_primary p1)
	survivor=$(pair_standby p1)
	probe_mark "$2"
	cut_off "$lost"
	wait_for 5 pair_holder_is p1 "$survivor"
	wait_for 90 pair_whole p1
	assert status_is "$survivor" "$lost" "$1"
	log "  gap $(probe_worst) ms"
}
back() {
	wait_for 60 status_is "$survivor" "$lost" 0
	ASK=$survivor
	wait_for 120 lab_settled
	unset ASK
	wait_for 60 pair_whole p1
}

log 'level 1 works: the node is off, and was not barred'
lose 0 level-1
assert is_off "$lost"
heal "$lost"
power_on "$lost"
back

log 'level 1 fails: level 2 bars the node, which goes on'
touch "$LAB_DIR/power.broken"
lose 2 level-2
assert not is_off "$lost"
assert find_line "off $lost: 1" < "$LAB_DIR/power.log"
rm "$LAB_DIR/power.broken"
heal "$lost"
back

log 'both in one level: off and barred, and switched on again, since of several devices Pacemaker asks off and then on'
for n in $(lab_all); do
	on n1 pcs stonith level clear target "$n"
	on n1 pcs stonith level add 1 "$n" power cut
done
wait_for 60 lab_settled
before=$(wc -l < "$LAB_DIR/power.log")
power_did() { tail -n +$((before + 1)) "$LAB_DIR/power.log" | grep -v '^status' | find_line "$1"; }
lose 2 one-level
assert power_did "off $lost: 0"
wait_for 30 power_did "on $lost: 0"
assert not is_off "$lost"
assert status_is "$survivor" "$lost" 2 # on, and barred until it is unfenced
heal "$lost"
back
probe_stop
