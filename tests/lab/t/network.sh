#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Faults of the network: loss in one direction, the members' link alone, a node cut off and healed, heartbeats replayed while their
# sender is gone.
# vmpaird: yes
# shellcheck disable=SC2119,SC2016 # heal takes no arguments of ours; conditions are evaluated by wait_for
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=../pair.sh
. "$LAB_SRC/pair.sh"
lab_load

hurt=$LAB_BUILD/tests/lab/hurt
entry=${LAB_ENTRY[0]}
pair_create 1
roles() {
	local n
	holder=$(pair_primary p1)
	standby=$(pair_standby p1)
	epoch=$(pair_epoch p1)
	for n in $(lab_all); do
		[ "$n" = "$holder" ] || [ "$n" = "$standby" ] || third=$n
	done
}
whole() {
	wait_for "${1:-90}" pair_whole p1 || fail 'p1 does not become whole'
	roles
}
moved() { [ "$(ASK=$standby pair_primary p1)" = "$standby" ] && probe_answers "$entry" "p1-${standby#n}"; }
link_problem() { pair_status "$holder" p1 | jq -e '.problems[] | select(test("internal net"))' > /dev/null; }
hears_not() { on "$1" vmpair status --output=json | jq -e --arg n "$2" '.nodes[] | select(.name == $n) | .heard | not' > /dev/null; }

whole
probe_start "$entry"

log 'one voter does not hear the primary: no reason for anything'
probe_mark one-voter
drop_from_to "$holder" "$third" c
wait_for 5 hears_not "$third" "$holder"
assert_eq "$epoch" "$(pair_epoch p1)" epoch
heal
wait_for 30 lab_healthy
whole
probe_mark quiet

log 'the link of the members alone, peer_link=keep: shown, no failover'
drop_from_to "$holder" "$standby" i
wait_for 15 link_problem || fail 'the lost link is not shown'
assert_eq "$epoch" "$(pair_epoch p1)" epoch
heal
wait_for 15 not link_problem || fail 'the link is still shown as lost'

log 'the same with peer_link=failover, set live: the standby takes over, once'
pid=$(vm_pid "$holder" p1)
on "$holder" pcs resource update p1 peer_link=failover > "$LAB_DIR/pcs.log" 2>&1 || fail "pcs: $(cat "$LAB_DIR/pcs.log")"
wait_for 20 events_more "$holder" p1 reloaded 0 || fail 'the parameter is not taken over'
wait_for 20 events_more "$standby" p1 reloaded 0
assert_eq "$pid" "$(vm_pid "$holder" p1)" 'process of the VM after a live change'
drop_from_to "$holder" "$standby" i
drop_from_to "$standby" "$holder" i
wait_for 20 moved || fail 'no failover when the link of the members is lost'
heal
whole
again=$epoch
on "$holder" pcs resource update p1 peer_link=keep > "$LAB_DIR/pcs.log" 2>&1 || fail "pcs: $(cat "$LAB_DIR/pcs.log")"
wait_for 20 events_more "$holder" p1 reloaded 1
assert_eq "$again" "$(pair_epoch p1)" 'epoch: one failover, not several'

log 'nobody hears the primary, which hears all: failover'
probe_mark mute
drop_from_to "$holder" "$standby" c
drop_from_to "$holder" "$third" c
(
	ASK=$standby
	wait_for 15 moved
) || fail 'no failover from a primary that nobody hears'
heal
wait_for 60 lab_healthy
whole

log 'the primary hears nobody, but all hear it: failover'
probe_mark deaf
drop_from_to "$standby" "$holder" c
drop_from_to "$third" "$holder" c
(
	ASK=$standby
	wait_for 15 moved
) || fail 'no failover from a primary that hears nobody'
heal
wait_for 60 lab_healthy
whole

log 'the node of the primary is cut off, and its recorded heartbeats are replayed to all: failover all the same; whole after healing'
in_switch "$hurt" record "${holder}c" 5440 600 "$LAB_DIR/frames"
probe_mark replay
cut_off "$holder"
mkfifo "$LAB_DIR/replay.in"
senders=()
for n in "$standby" "$third"; do
	in_switch "$hurt" send "${n}c" "$LAB_DIR/frames" shuffle none 0 < "$LAB_DIR/replay.in" &
	senders+=($!)
done
exec {replay_fd}> "$LAB_DIR/replay.in"
(
	ASK=$standby
	wait_for 10 moved
) || fail 'replayed heartbeats keep a lost primary alive'
exec {replay_fd}>&-
wait "${senders[@]}"
pid=$(vm_pid "$standby" p1)
old=$holder
heal
wait_for 60 lab_healthy
whole 120
assert_eq "$pid" "$(vm_pid "$holder" p1)" 'process of the primary: not stopped by the healing'
members() { pair_status "$holder" p1 | jq '[.members[] | select(.running)] | length'; }
wait_for 30 eval '[ "$(members)" = 2 ]' || fail "members that run: $(members)"
n=0
for node in $(lab_all); do ! on "$node" pgrep -f 'guest=p1,' > /dev/null || n=$((n + 1)); done
assert_eq 2 "$n" "VMs of the pair (node $old was cut off)"
probe_stop
assert_le "$(probe_value one-voter 'max_gap_ms | floor')" 500 'gap while one voter is deaf to the primary, in ms'
