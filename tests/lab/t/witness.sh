#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Two hosts and a witness outside the cluster: the fast path with a VM killed and a host cut off; the witness lost, back, set up anew, with
# other settings; and what status says meanwhile.
# nodes: 2
# witness: yes
# timeout: 240
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=../pair.sh
. "$LAB_SRC/pair.sh"
lab_load

w=$(lab_witness)
entry=${LAB_ENTRY[0]}
whole() {
	wait_for "${1:-90}" pair_whole p1 || fail 'p1 does not become whole'
	holder=$(pair_primary p1)
	standby=$(pair_standby p1)
	epoch=$(pair_epoch p1)
}
problems() { on "$1" timeout 5 vmpair status --output=json | jq -r '.problems[]'; } # problems NODE
complains() { problems "$1" | find_line "$2"; }                                    # complains NODE PATTERN
row() { on "$1" timeout 5 vmpair status --output=json | jq -r --arg n "$2" '.nodes[] | select(.name == $n) | "\(.voter) \(.heard)"'; }
row_is() { [ "$(row "$1" "$2")" = "$3" ]; }
goes_on() { # the pair is served by the same primary in the same epoch
	assert_eq "$holder $epoch" "$(pair_primary p1) $(pair_epoch p1)" 'primary and epoch'
	assert probe_answers "$entry" p1
}

assert not on "$w" test -e /etc/corosync/corosync.conf
on "$w" vmpaird -t --witness | find_line 'good.*witness n3 3 10.78.0.3; hosts n1 1'
pair_create 1
whole
for n in n1 n2 "$w"; do
	cluster_says "$n" voters 3 || fail "$n does not count three voters"
	cluster_says "$n" regime lease || fail "$n: $(on "$n" vmpair status | head -n 3)"
done
row_is n1 "$w" 'true true' || fail "n1 sees the witness as: $(row n1 "$w")"
on "$w" vmpair status | find_line '^node n3 (3), .*witness'
assert_eq '' "$(problems "$w")" 'problems on the witness'
probe_start "$entry"

log 'the VM of the primary is killed'
old=$holder
on "$holder" kill -KILL "$(vm_pid "$holder" p1)"
wait_for 20 pair_holder_is p1 "$standby"
whole

log 'the primary is cut off: the other host and the witness are a majority'
old=$holder
uptime_ms; t0=$REPLY
cut_off "$old"
(
	ASK=$standby
	wait_for 20 pair_holder_is p1 "$standby"
	uptime_ms
	log "taken over after $((REPLY - t0)) ms"
) || fail 'no failover'
complains "$standby" "voters not heard: $old; no other voter may fail now" || fail "status: $(problems "$standby")"
heal "$old"
whole 150

log 'the witness is lost: the pair goes on, status says what cannot happen any more'
power_off "$w"
wait_for 5 complains "$holder" "voters not heard: $w; no other voter may fail now"
row_is "$holder" "$w" 'true false' || fail "the witness: $(row "$holder" "$w")"
goes_on

log 'back after a boot'
power_on "$w"
for n in n1 n2; do wait_for 20 not complains "$n" 'not heard'; done
wait_for 20 not complains "$w" abstains
goes_on

log 'it counts leases otherwise: it is not listened to, and both sides say why'
daemon stop "$w" vmpaird
on "$w" sed -i 's/^lease_ms = .*/&0/' /etc/vmpair/vmpaird.conf
daemon start "$w" vmpaird
wait_for 10 complains "$holder" "$w is not listened to: lease_ms or clock_error differ"
wait_for 10 complains "$w" "$holder is not listened to: lease_ms or clock_error differ"
goes_on
daemon stop "$w" vmpaird
on "$w" sed -i 's/^\(lease_ms = .*\)0$/\1/' /etc/vmpair/vmpaird.conf
daemon start "$w" vmpaird
for n in n1 n2; do wait_for 20 not complains "$n" 'not heard\|not listened'; done

log 'another machine in its place: removed (two voters: the other regime), then added'
power_off "$w"
rm -rf "$LAB_DIR/$w/var/lib/vmpair"
on "$holder" vmpair voter remove "$w" | find_line '2 voters'
for n in n1 n2; do wait_for 10 cluster_says "$n" voters 2; done
wait_for 5 cluster_says "$holder" regime release-only
on "$holder" vmpair status | find_line 'regime release-only (.*two voters'
complains "$holder" "$w is no voter yet: vmpair voter add $w"
goes_on
power_on "$w"
wait_for 20 row_is "$holder" "$w" 'false true'
on "$holder" vmpair voter add "$w" | find_line '3 voters'
for n in n1 n2 "$w"; do wait_for 20 cluster_says "$n" voters 3; done
wait_for 10 cluster_says "$holder" regime lease
whole
goes_on

log 'nodes whose witness differs say so'
on "$standby" sed -i '/^witness/d' /etc/vmpair/vmpaird.conf
on "$standby" "$LAB_SRC/node.sh" signal vmpaird HUP
wait_for 15 complains "$holder" "$standby has another witness in vmpaird.conf (none) than this node ($w 3"
probe_stop
