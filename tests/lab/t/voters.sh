#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The voter set: a node removed and added again while the pair serves, two voters meanwhile, a node that lost its disk taken in again.
# vmpaird: yes
# full: yes
# timeout: 240
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=../pair.sh
. "$LAB_SRC/pair.sh"
lab_load

entry=${LAB_ENTRY[0]}
pair_create 1
whole() {
	wait_for "${1:-90}" pair_whole p1 || fail 'p1 does not become whole'
	holder=$(pair_primary p1)
	standby=$(pair_standby p1)
	epoch=$(pair_epoch p1)
	for n in $(lab_all); do [ "$n" = "$holder" ] || [ "$n" = "$standby" ] || other=$n; done
}
refused() { # refused PATTERN COMMAND...: with one line that says why
	local pattern=$1 out rc=0
	shift
	out=$(on "$holder" "$@" 2>&1) || rc=$?
	if [ $rc -eq 0 ] || ! grep -q -- "$pattern" <<< "$out"; then fail "$*: status $rc, '$out'"; fi
}
whole
probe_start "$entry"

log 'what is refused'
refused 'no node' vmpair voter remove n9
refused 'cannot remove itself' vmpair voter remove "$holder"
refused 'not heard' vmpair voter add 77
refused 'nothing waits for that disk' vmpair voter lost "$other" --yes
refused '--yes' vmpair voter lost "$other"

log 'the third node is removed: two voters, said by status; the primary serves on'
on "$holder" vmpair voter remove "$other" | grep -q '2 voters'
for n in "$holder" "$standby"; do wait_for 10 cluster_says "$n" voters 2; done
wait_for 5 cluster_says "$holder" regime release-only
assert_eq "$epoch" "$(pair_epoch p1)" 'epoch with two voters'

log 'it loses its disk meanwhile, comes back as another voter and is added again'
power_off "$other"
wait_for 30 not sees_node "$holder" "$other" # else what is healthy below is what was before
rm -rf "$LAB_DIR/$other/var/lib/vmpair"
power_on "$other"
wait_for 90 lab_healthy
added() { # refused until its daemon has joined the others'
	local out
	out=$(on "$holder" vmpair voter add "$other" 2>&1) || true
	echo "$out"
	[[ $out == *'3 voters'* ]]
}
wait_for 20 added
for n in $(lab_all); do wait_for 20 cluster_says "$n" voters 3; done
votes() { # the new one reads the others' memory first, which takes both of them
	local out
	out=$(on "$1" timeout 5 vmpair status) && [[ $out != *'this voter abstains'* ]] && cluster_says "$1" regime lease
}
for n in $(lab_all); do wait_for 30 votes "$n"; done
whole
assert_eq "$epoch" "$(pair_epoch p1)" 'epoch after the change'

log 'three voters again: the loss of a node is a failover as ever'
old=$holder
cut_off "$old"
(
	ASK=$standby
	wait_for 20 pair_holder_is p1 "$standby"
) || fail 'no failover'
heal "$old"
whole 150
probe_stop
