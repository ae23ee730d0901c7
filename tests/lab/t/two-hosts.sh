#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Two hosts without a witness: no lease of a lost node ends, and it is Pacemaker's fencing by which pairs move. Hosts that are off, or only cut
# off; fencing that fails at first, or is declared by hand; a survivor whose daemon is started anew. Clients remember what they were told.
# nodes: 2
# vmpaird: yes
# full: yes
# timeout: 600
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=../pair.sh
. "$LAB_SRC/pair.sh"
# shellcheck source-path=SCRIPTDIR source=../history.sh
. "$LAB_SRC/history.sh"
lab_load

problems() { on "$1" timeout 5 vmpair status --output=json | jq -r '.problems[]'; } # problems NODE
complains() { problems "$1" | find_line "$2"; }                                    # complains NODE PATTERN
proofs() { events_count "$1" - fence-proved; }                                     # proofs NODE
mode_is() { [ "$(pair_status "$1" p1 | jq -r .mode)" = "$2" ]; }                      # mode_is NODE MODE
why_says() { on "$1" vmpair why p1 | find_line "$2"; }                              # why_says NODE PATTERN
promoted_is() { [ "$(pcmk_promoted p1 "$1")" = "$1" ]; }                            # promoted_is NODE: and it knows
answers() { in_client curl -s -g --max-time 0.5 -o /dev/null "http://$entry/"; }
lost() { # what is done to the node of the primary: sets lost, survivor, and whom a_node asks
	lost=$holder survivor=$standby
	ASK=$survivor
	before=$(proofs "$survivor")
}
# shellcheck disable=SC2034 # for a_node
standby_lost() {
	lost=$standby survivor=$holder
	ASK=$survivor
	before=$(proofs "$survivor")
}
fenced() { # fenced PATTERN: the survivor serves, and says by what right
	wait_for "${2:-60}" pair_holder_is p1 "$survivor" || fail "$step: no takeover"
	wait_for 30 mode_is "$survivor" alone
	assert_eq $((before + 1)) "$(proofs "$survivor")" 'proofs'
	assert complains "$survivor" "^$lost $1.*; it is left out until it is back"
	wait_for 30 promoted_is "$survivor"
}
back() {
	unset ASK
	power_on "$lost"
	wait_for 90 lab_healthy
	whole 120
	assert_eq '' "$(problems "$survivor")" 'problems'
}

log 'without fencing'
store_start
trap 'kill "$store_pid" "${POWER_SWITCH-}" 2> /dev/null || true' EXIT
cluster_says n1 regime release-only || fail "$(on n1 vmpair status)"
wait_for 10 complains n1 'two voters and no fencing (stonith-enabled is false): .* not taken over'
power_switch_start
on n1 pcs stonith create power fence_lab pcmk_host_list='n1 n2' op monitor interval=60s > "$LAB_DIR/pcs.log" 2>&1 ||
	fail "pcs: $(cat "$LAB_DIR/pcs.log")"
on n1 pcs property set stonith-enabled=true
for n in n1 n2; do
	wait_for 20 cluster_says $n regime fencing || fail "$n: $(on $n vmpair status)"
	on $n vmpair status | find_line 'regime fencing (two voters: .*device: power'
done

pair_apps 1 bank "$HISTORY_STORE"
# shellcheck disable=SC2034 # for pair_create
PAIR_PARAMS=(entry_mode=host relay=host sync=journal services=http1:80:8080)
pair_create 1
whole
for n in n1 n2; do assert_eq '' "$(problems $n)" "problems of $n"; done
client bank -p 80 -a 0 -w 4 -r 2

step 'the host of the primary is lost, and cannot be fenced at first'
lost
touch "$LAB_DIR/power.broken"
power_off "$lost"
wait_for 60 complains "$survivor" "$lost is silent and keeps its pairs until Pacemaker has fenced it: Pacemaker could not fence it" ||
	fail "$(on "$survivor" vmpair status)"
assert_eq 0 $(($(proofs "$survivor") - before)) 'proofs'
assert_eq unknown "$(pair_status "$survivor" p1 | jq -r --arg n "$lost" '.members[] | select(.node == $n) | .role')" 'role of the lost member'
assert not pair_holder_is p1 "$survivor"
assert not answers
rm "$LAB_DIR/power.broken"
# Pacemaker may have given up by now (stonith-max-attempts), or be faster
on "$survivor" pcs stonith fence "$lost" --off > "$LAB_DIR/pcs.log" 2>&1 || fail "pcs: $(cat "$LAB_DIR/pcs.log")"
fenced 'was fenced: .* (device: power)'
wait_for 20 why_says "$survivor" "$lost was fenced: " # on record once the entry is open, and that waits for the relay
back

step 'the host of the standby is lost: nothing is answered alone before it is fenced'
standby_lost
power_off "$lost"
fenced 'was fenced: '
log 'the daemon that knows it is killed, and knows it still'
daemon kill "$survivor" vmpaird
daemon start "$survivor" vmpaird
wait_for 15 lab_vmpaird_answers "$survivor"
wait_for 30 mode_is "$survivor" alone
assert complains "$survivor" "^$lost was fenced: "
back

step 'the hosts do not see each other any more, and the one of the primary is fenced alive'
on n1 pcs stonith update power pcmk_delay_base="$holder:0s;$standby:20s" > "$LAB_DIR/pcs.log" 2>&1 || fail "pcs: $(cat "$LAB_DIR/pcs.log")"
wait_for 30 lab_settled
lost
cut_off "$lost" c
fenced 'was fenced: '
assert not test -e "$LAB_DIR/$lost.pid"
heal "$lost" c
on "$survivor" pcs stonith update power pcmk_delay_base= > "$LAB_DIR/pcs.log" 2>&1 || fail "pcs: $(cat "$LAB_DIR/pcs.log")"
back

step 'an operator says that the host is off'
lost
touch "$LAB_DIR/power.broken"
power_off "$lost"
wait_for 60 complains "$survivor" "$lost is silent .*: Pacemaker \(could not fence\|is fencing\) it"
on "$survivor" stonith_admin --confirm "$lost"
fenced 'was declared to be off by an operator' 90
rm "$LAB_DIR/power.broken"
back

step 'the device says that the host of the primary is off, and it is not: handed over, not taken over, and somebody is told'
lost
touch "$LAB_DIR/power.lies"
on "$survivor" pcs stonith fence "$lost" --off > "$LAB_DIR/pcs.log" 2>&1 || fail "pcs: $(cat "$LAB_DIR/pcs.log")"
assert test -e "$LAB_DIR/$lost.pid"
wait_for 90 complains "$survivor" "$lost: it was heard after it had been fenced: the device does not cut its power" ||
	fail "$(on "$survivor" vmpair status)"
assert_eq "$before" "$(proofs "$survivor")" 'proofs'
assert not complains "$survivor" "^$lost was fenced: .* it is left out until it is back"
rm "$LAB_DIR/power.lies"
on "$survivor" pcs stonith fence "$lost" --off > "$LAB_DIR/pcs.log" 2>&1 || fail "pcs: $(cat "$LAB_DIR/pcs.log")"
assert not test -e "$LAB_DIR/$lost.pid"
fenced 'was fenced: off by .*'
back

step 'the voter of a lost host is removed: done once that host is fenced, and kept by a daemon that is started anew'
standby_lost
touch "$LAB_DIR/power.broken"
power_off "$lost"
wait_for 60 complains "$survivor" "$lost is silent .*: Pacemaker \(could not fence\|is fencing\) it"
asked=$(events_count "$survivor" - voters)
on "$survivor" vmpair voter remove "$lost" > "$LAB_DIR/remove.log" 2>&1 &
remove=$!
wait_for 10 events_more "$survivor" - voters "$asked"
assert cluster_says "$survivor" voters 2
rm "$LAB_DIR/power.broken"
on "$survivor" pcs stonith fence "$lost" --off > "$LAB_DIR/pcs.log" 2>&1 || fail "pcs: $(cat "$LAB_DIR/pcs.log")"
wait "$remove" || fail "voter remove: $(cat "$LAB_DIR/remove.log")"
for _ in 1 2; do
	wait_for 30 mode_is "$survivor" alone
	assert cluster_says "$survivor" voters 1
	assert pair_holder_is p1 "$survivor"
	daemon kill "$survivor" vmpaird
	daemon start "$survivor" vmpaird
	wait_for 15 lab_vmpaird_answers "$survivor"
done
unset ASK
power_on "$lost"
wait_for 90 lab_healthy
added() { on "$survivor" vmpair voter add "$lost" > "$LAB_DIR/add.log" 2>&1; } # not before its daemon has joined the other one's
wait_for 30 added || fail "voter add: $(cat "$LAB_DIR/add.log")"
for n in n1 n2; do wait_for 20 cluster_says "$n" voters 2; done
whole 120
assert_eq '' "$(problems "$survivor")" 'problems'

step 'the daemon of the primary is killed, and its VM before it is back: the pair moves, and no agent of Pacemaker runs meanwhile'
executors() { for n in n1 n2; do assert on $n pkill "-$1" -x pacemaker-execd; done; } # executors SIGNAL
lost
pid=$(vm_pid "$lost" p1)
executors STOP
daemon kill "$lost" vmpaird
on "$lost" kill -s KILL "$pid"
daemon start "$lost" vmpaird
wait_for 30 pair_holder_is p1 "$survivor" || fail "$step: $(on "$survivor" vmpair status)"
wait_for 10 answers
executors CONT
unset ASK
whole 120

step 'the VMs of both are lost, and the host of the last primary gets none: the other one begins again'
for n in "$holder" "$standby"; do
	wait_for 10 pair_holder_is p1 "$n"
	on "$n" kill -s KILL "$(vm_pid "$n" p1)"
done
on n1 pcs resource ban p1-clone "$standby" > "$LAB_DIR/pcs.log" 2>&1 || fail "pcs: $(cat "$LAB_DIR/pcs.log")"
wait_for 60 pair_holder_is p1 "$holder" || fail "$step: $(on n1 vmpair status)"
on n1 pcs resource clear p1-clone > "$LAB_DIR/pcs.log" 2>&1 || fail "pcs: $(cat "$LAB_DIR/pcs.log")"
whole 120

log 'every acknowledged write is there exactly once'
clients_stop || fail 'a history is wrong'
