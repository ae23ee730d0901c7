# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: vmpaird of the primary frozen, thawed after the lease
# moves: yes
# third: yes
inject() {
	old=$holder
	daemon freeze "$old" vmpaird
	wait_moved "$old"
	wait_for 5 named_by "$other" "$standby" || fail "$name: $other names another primary" # what the frozen one said last stands in the group
}
named_by() { [ "$(pair_status "$1" p1 | jq -r .holder)" = "$2" ]; } # named_by NODE PRIMARY
mend() { daemon thaw "$old" vmpaird; }
