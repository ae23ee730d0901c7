#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A relay on each host before unmodified guests (relay=host, http1, journal): clients that remember lose nothing of what was acknowledged
# when the pair is moved, when the VM, the relay, the daemon or the node is lost; what the operator is shown of it; keys changed under way.
# vmpaird: yes
# timeout: 500
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=../pair.sh
. "$LAB_SRC/pair.sh"
# shellcheck source-path=SCRIPTDIR source=../history.sh
. "$LAB_SRC/history.sh"
lab_load

relay_of() { pair_status "$1" p1 | jq -c --arg n "${2:-$1}" '.members[] | select(.node == $n) | .relay'; } # relay_of ASKED [NODE]
why_says() { # why_says PATTERN: in the story of the last change
	local out
	out=$(on "$(a_node)" vmpair why p1)
	grep -Eq -- "$1" <<< "$out" || { echo "$out"; return 1; }
}
problem_says() { # problem_says PATTERN
	pair_status "$(a_node)" p1 | jq -r '.problems[]' | find_line -E -- "$1"
}
requests_told() { # the new primary told what it found: in the story of the change
	wait_for 5 why_says 'requests +(taken over: .* dropped|nothing was unfinished)' || fail "$step: what became of the requests is not told"
}

store_start
pair_apps 1 bank "$HISTORY_STORE"
PAIR_PARAMS=(entry_mode=host relay=host services=http1:80:8080)
pair_create 1
whole 240
client c1 -w 8 -r 4
entry=${LAB_ENTRY6[0]} client c6 -a 50 -w 2 -r 2

step 'the relay runs with few rights and is shown'
pid=$(relay_pid "$holder")
# shellcheck disable=SC2016 # awk's
assert_eq 0000000000000400 "$(on "$holder" awk '/^CapEff:/ {print $2}' "/proc/$pid/status")" 'capabilities of the relay'
# shellcheck disable=SC2016
[ "$(on "$holder" awk '/^Uid:/ {print $3}' "/proc/$pid/status")" != 0 ] || fail 'the relay runs as root'
assert_eq up "$(relay_of "$holder" | jq -r .state)" 'state of the relay'
assert_eq up "$(relay_of "$holder" "$standby" | jq -r .state)" "state of the standby's relay, as $holder tells it"
wait_for 10 eval "[ \"\$(relay_of $holder | jq .stats.requests)\" -gt 0 ]"

step switchover
fault_switchover
requests_told

step 'the VM of the primary is killed'
fault_vm_kill
requests_told

step 'the relay of the primary is killed'
fault_relay_kill
why_says 'signal 9' || fail 'the end of the relay is not told'
requests_told

step 'the relay of the standby is killed'
fault_standby_relay_kill

step 'a daemon is restarted as planned: the relay goes on, and its content is the same'
pid=$(relay_pid "$holder") epoch=$(pair_epoch p1)
daemon stop "$holder" vmpaird
daemon start "$holder" vmpaird
whole
assert_eq "$pid" "$(relay_pid "$holder")" "process of the relay of $holder"
assert_eq "$epoch" "$(pair_epoch p1)" 'epoch'

step 'new keys while it runs'
on "$holder" vmpair key rotate > /dev/null || fail 'key rotate'
wait_for 15 pair_whole p1
assert_eq "$pid" "$(relay_pid "$holder")" "process of the relay of $holder"
fault_standby_relay_kill # what is made anew finds the others with the new key

step 'the daemon of the primary is killed'
fault_daemon_kill

step 'no second node: degraded is said, and the clients are answered'
for n in $(lab_all); do
	[ "$n" = "$holder" ] || on "$holder" pcs node standby "$n"
done
wait_for 60 problem_says '^degraded' || fail 'degraded is not said'
before=$(relay_of "$holder" | jq .stats.requests)
wait_for 10 eval "[ \"\$(relay_of $holder | jq .stats.requests)\" -gt $before ]"
for n in $(lab_all); do on "$holder" pcs node unstandby "$n"; done
whole 150
not problem_says '^degraded' || fail 'degraded is said of a whole pair'

step 'the node of the primary is cut off, with clients that only wait'
waiters_start 80
uptime_ms
t0=$REPLY
fault_node_cut
requests_told
waiters_reset 10000

clients_stop
