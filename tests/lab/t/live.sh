#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What changes under running VMs: holds, keys, parameters, the daemon itself; and the frozen fast path. Two crossed pairs, each with a client.
# vmpaird: yes
# timeout: 600
# lease_ms: 1000
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=../pair.sh
. "$LAB_SRC/pair.sh"
# shellcheck source-path=SCRIPTDIR source=../ops.sh
. "$LAB_SRC/ops.sh"
lab_load

pairs_crossed
before="$(members p1) $(members p2)"
same_vms() { assert_eq "$before" "$(members p1) $(members p2)" "$step: all VMs"; }
unnoticed() { # nothing was restarted, and the clients noticed no more than of planned work
	same_vms
	gap p1 "$PLANNED_MS"
	gap p2 "$PLANNED_MS"
}
has_entry() { pair_status "$1" p1 | jq -e --arg a "$2" '.entries | index($a)' > /dev/null; }
epoch() { pair_status "$(a_node)" "$1" | jq .epoch; }
node_back() { lab_vmpaird_answers "$1" && pair_whole p1 && pair_whole p2; }

step 'hold and unhold'
node=$(pair_primary p1)
assert on "$node" vmpair hold p1 5s
[ "$(pair_status "$node" p1 | jq .held_ms)" -gt 0 ] || fail 'status does not show the hold'
assert on "$node" vmpair unhold p1
assert_eq 0 "$(pair_status "$node" p1 | jq .held_ms)" 'hold after unhold'
unnoticed

step 'what hold refuses, and all pairs at once'
says() { # says PATTERN COMMAND...
	local out pattern=$1
	shift
	out=$("$@" 2>&1) || true
	grep -qE -- "$pattern" <<< "$out" || fail "$step: wanted '$pattern', $* says: $out"
}
says 'ms must be 1 to [0-9]+ .hold_max_ms' on "$node" vmpair hold p1 1h
says "ask on $node" on "$(pair_standby p1)" vmpair hold p1 1s
says 'this node is primary of no pair' on n3 vmpair hold --all 1s
pair_at p2 "$node"
says 'held for [0-9]{3,} ms, 2 pairs' on "$node" vmpair hold --all 5s
for p in p1 p2; do [ "$(pair_status "$node" $p | jq .held_ms)" -gt 0 ] || fail "status does not show the hold of $p"; done
assert on "$node" vmpair unhold --all
for p in p1 p2; do assert_eq 0 "$(pair_status "$node" $p | jq .held_ms)" "hold of $p after unhold"; done
gap p2 "$PLANNED_MS"

step 'events are followed, why tells a move in order'
pair_at p2 n1
on n2 vmpair events --follow --limit=1 --output=json p2 > "$LAB_DIR/followed" &
follower=$!
wait_for 10 test -s "$LAB_DIR/followed"
seen=$(grep -c '"bound"' "$LAB_DIR/followed" || true)
followed() { [ "$(grep -c '"bound"' "$LAB_DIR/followed")" -gt "$seen" ]; }
pair_at p2 n2
wait_for 10 followed || fail "events --follow does not tell of the move: $(cat "$LAB_DIR/followed")"
kill "$follower"
told=$(on n3 vmpair why --output=json p2 | jq -r '[.events[].what] | map(select(IN("cause", "unbound", "released", "claimed", "bound", "agreed")))
	| reduce .[] as $w ([]; if index($w) then . else . + [$w] end) | join(" ")')
assert_eq 'cause unbound released claimed bound agreed' "$told" 'order of the story'
gap p2 "$PLANNED_MS"

step 'new keys for all daemons'
assert on n1 vmpair key rotate
for n in $(lab_all); do
	on "$n" grep -q '^key 2 .* send' /etc/vmpair/keys || fail "$n does not send with the new key"
	on "$n" grep -q '^key 1 ' /etc/vmpair/keys || fail "$n has dropped the old key"
done
whole p1
unnoticed

step 'parameters change live'
second=10.77.0.111
assert on n1 pcs resource update p1 peer_link=failover entry="${LAB_ENTRY[0]}/24,${LAB_ENTRY6[0]}/64,$second/24"
for n in n1 n2; do
	wait_for 30 has_entry "$n" "$second/24" || fail "$n has not taken the address"
done
whole p1
unnoticed

step 'planned restart of the daemons, one after the other'
for n in $(lab_all); do
	epochs="$(epoch p1) $(epoch p2)"
	assert daemon stop "$n" vmpaird
	daemon start "$n" vmpaird
	wait_for 60 node_back "$n"
	assert_eq "$epochs" "$(epoch p1) $(epoch p2)" "$step: epochs after $n"
done
unnoticed

step 'what the daemon before wrote down of a member cannot be understood: status says so, nothing else happens'
n=$(pair_standby p2)
facts=/run/vmpair/pairs/p2.json
assert daemon stop "$n" vmpaird
on "$n" sh -c "cp -p $facts $facts.good && jq '.params.entry = \"nowhere\"' $facts.good > $facts"
daemon start "$n" vmpaird
wait_for 30 status_says "$n" p2 'p2: its VM runs on this node (process [0-9]*), but could not be taken over: parameter entry: '
same_vms
assert daemon stop "$n" vmpaird
on "$n" mv "$facts.good" "$facts"
daemon start "$n" vmpaird
wait_for 60 node_back "$n"
whole p2
same_vms
unnoticed
assert not status_says "$n" p2 'could not be taken over' > "$LAB_DIR/status.log"

step 'daemon killed and back within the lease'
epochs="$(epoch p1) $(epoch p2)"
on n1 sh -c "kill -KILL \$(cat /run/lab/vmpaird.pid); '$LAB_SRC/node.sh' start vmpaird"
wait_for 60 node_back n1
same_vms
gap p1 "$LOST_MS"
gap p2 "$PLANNED_MS"
assert_eq "$epochs" "$(epoch p1) $(epoch p2)" "$step: epochs"

step 'daemon killed and back after the lease: an ordinary failover'
pair_at p1 n1
epochs="$(epoch p1) $(epoch p2)"
daemon kill n1 vmpaird
wait_for 10 pair_holder_at n2 p1 n2
gap p1 "$LOST_MS"
daemon start n1 vmpaird
wait_for 90 node_back n1
same_vms
gap p2 "$PLANNED_MS"

step 'maintenance mode: nothing moves by itself'
pair_at p1 n1
assert on n1 pcs property set maintenance-mode=true
for n in n1 n2; do wait_for 20 status_says "$n" p1 'fast failover is frozen'; done
assert not on n1 vmpair switchover p1
on n1 kill -KILL "$(member_pid p1 n1)"
assert during 3 not pair_holder_at n2 p1 n2
assert not probe_answers "${LAB_ENTRY[0]}"
gap p2 "$PLANNED_MS"
assert on n1 pcs property set maintenance-mode=false
whole p1
gap p1 120000
gap p2 "$PLANNED_MS"

step 'unmanaged'
pair_at p1 n1
before="$(members p1) $(members p2)"
assert on n1 pcs resource unmanage p1
wait_for 20 status_says n1 p1 'fast failover is frozen'
assert not on n1 vmpair switchover p1
assert not status_says n1 p2 'fast failover is frozen'
assert on n1 pcs resource manage p1
wait_for 20 not status_says n1 p1 'fast failover is frozen'
whole p1
unnoticed

step 'both members replaced under cold_start=manual: only the operator may go on'
assert on n1 pcs resource update p1 cold_start=manual
assert on n1 pcs resource disable p1-clone
for n in $(lab_all); do wait_for 60 no_member p1 "$n"; done
assert on n1 pcs resource enable p1-clone
two_ready() { pair_status n3 p1 | jq -e '[.members[] | select(.running and .ready)] | length == 2' > /dev/null; }
wait_for 90 two_ready
node=$(pair_status n3 p1 | jq -r '.members[0].node')
wait_for 10 status_says n3 p1 "$node: .*force-primary decides"
assert during 2 not probe_answers "${LAB_ENTRY[0]}"
assert on "$node" vmpair force-primary --yes p1
whole p1
assert_eq "$node" "$(pair_primary p1)" 'the forced primary'
gap p1 180000
gap p2 "$PLANNED_MS"

step 'a second address of a family moves with the first' # the guests have it since they were started anew
all_answer() { # all_answer NODE: its member, at each address
	local a
	for a in "${LAB_ENTRY[0]}" "$second" "[${LAB_ENTRY6[0]}]"; do probe_answers "$a" "p1-$(lab_node_id "$1")" || return 1; done
}
node=$(pair_primary p1) standby=$(pair_standby p1)
wait_for 10 all_answer "$node" || fail "$step: $node does not answer at all addresses"
PROBE=second probe_start "$second"
assert on "$node" vmpair switchover p1
wait_for 10 all_answer "$standby" || fail "$step: $standby does not answer at all addresses"
whole p1
assert_eq "$standby" "$(pair_primary p1)" "$step: primary"
log "  client of $second noticed $(PROBE=second probe_worst) ms"
assert_le "$(PROBE=second probe_worst)" "$PLANNED_MS" "$step: gap at $second, ms"
PROBE=second probe_stop
gap p1 "$PLANNED_MS"
gap p2 "$PLANNED_MS"
pairs_end
