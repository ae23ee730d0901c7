#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Five nodes: the pair outlives the loss of two of them, whichever, one after the other and at once; a third is one too many, and then nobody
# serves until a majority is back.
# nodes: 5
# vmpaird: yes
# full: yes
# timeout: 400
# shellcheck disable=SC2119 # heal takes no arguments of ours
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=../pair.sh
. "$LAB_SRC/pair.sh"
lab_load

entry=${LAB_ENTRY[0]}
pair_create 1
roles() {
	holder=$(pair_primary p1)
	standby=$(pair_standby p1)
	mapfile -t rest < <(lab_all | grep -vx -e "$holder" -e "$standby")
}
whole() {
	wait_for 120 pair_whole p1 || fail 'p1 does not become whole'
	roles
}
served_by() { probe_answers "$entry" "p1-${1#n}"; }
silent() { ! probe_answers "$entry" p1-; }

ASK=n1
whole
probe_start "$entry"
assert_eq 5 "$(on n1 vmpair status --output=json | jq '.nodes | length')" 'nodes in the status'

log 'two nodes without a member are cut off at once: nobody notices'
probe_mark bystanders
for n in "${rest[@]:0:2}"; do cut_off "$n"; done
ASK=$holder
wait_for 30 not sees_node "$holder" "${rest[0]}"
served_by "$holder" || fail 'the primary does not serve'
heal
wait_for 60 lab_healthy
whole
probe_mark healed

log 'the primary and a bystander are cut off at once: the standby takes over with three of five'
new=$standby
ASK=$new
cut_off "$holder"
cut_off "${rest[0]}"
wait_for 15 served_by "$new" || fail 'the standby does not take over'
wait_for 120 pair_whole p1 || fail 'no third VM becomes the standby'
heal
wait_for 60 lab_healthy
whole
assert_eq "$new" "$holder" 'primary after healing'

log 'three cut off one by one: with two left the entry closes; it opens when the majority is back'
for n in "${rest[@]}"; do cut_off "$n"; done
wait_for 30 silent || fail 'the entry is open in a minority'
heal
wait_for 60 lab_healthy
wait_for 60 probe_answers "$entry" p1- || fail 'nobody serves after healing'
whole
probe_stop
assert_le "$(probe_value bystanders 'max_gap_ms | floor')" 1000 'gap by the loss of two bystanders, in ms'
