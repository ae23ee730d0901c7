#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Requests that were given to the application and not answered when the primary is lost: what redo=never, idempotent and all make of them, and
# that vmpair why tells it. The parameter is changed while the pair runs.
# vmpaird: yes
# full: yes
# timeout: 400
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=../pair.sh
. "$LAB_SRC/pair.sh"
# shellcheck source-path=SCRIPTDIR source=../history.sh
. "$LAB_SRC/history.sh"
lab_load

why_says() { on "$(a_node)" vmpair why p1 | find_line -E -- "$1"; }
nothing_under_way() {
	[ "$(pair_status "$holder" p1 | jq -c --arg n "$holder" '.members[] | select(.node == $n) | .relay.stats.in_flight')" = 0 ]
}
reloads() { on "$1" vmpair events p1 | grep -c 'parameters changed live' || true; } # reloads NODE
# Pacemaker reloads a member whose start it remembers; one whose failure was cleaned up it starts anew.
taken() { [ "$(reloads "$standby")" -gt "$before" ] || [ "$(relay_pid "$standby")" != "$pid" ]; }
in_store() { in_client curl -s "http://$HISTORY_STORE/ledger/$1" | grep -qx "$2"; }
late() { # late ACCOUNT ID [OPTION...]: executed at once, answered 12 s later; ends by a reset
	in_client curl -s -o /dev/null --max-time 30 -X POST "${@:3}" "http://$entry/credit/$1/1/$2?delay=12000" || true &
	late+=($!)
}

store_start
pair_apps 1 bank "$HISTORY_STORE"
# shellcheck disable=SC2034 # for pair_create
PAIR_PARAMS=(entry_mode=host relay=host services=http1:80:8080 redo=never)
pair_create 1
whole 240

i=0
for want in never:0:2 idempotent:1:1 all:2:0; do
	IFS=: read -r redo executed dropped <<< "$want"
	step "redo=$redo"
	i=$((i + 1))
	if [ "$redo" != never ]; then
		before=$(reloads "$standby") pid=$(relay_pid "$standby")
		assert on "$holder" pcs resource update p1 "redo=$redo"
		wait_for 60 taken || fail 'the parameter has not reached the standby'
		whole
	fi
	late=()
	late $((80 + i)) "plain-$redo"
	late $((90 + i)) "key-$redo" -H "Idempotency-Key: \"$redo\""
	wait_for 10 in_store $((80 + i)) "plain-$redo" || fail 'the request without an id was not executed'
	wait_for 10 in_store $((90 + i)) "key-$redo" || fail 'the request with an id was not executed'
	fault_vm_kill
	wait_for 5 why_says "requests +taken over: .* 2 dispatched, .* of these $executed executed here, .* $dropped dropped" ||
		fail "what became of the requests is not told: $(on "$(a_node)" vmpair why p1)"
	wait_for 30 nothing_under_way || fail 'what was executed again does not end'
	wait "${late[@]}"
done
