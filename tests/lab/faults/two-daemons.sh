# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: vmpaird of primary and standby killed within 100 ms, started again after 1 s
# third: yes
inject() {
	local one two
	first=$holder second=$standby
	one=$(host_daemon "$first" vmpaird) two=$(host_daemon "$second" vmpaird)
	at_once kill -KILL "$one" "$two"
	wait_for 10 ended # a start would find them running
	keep_for 1
	daemon start "$first" vmpaird
	daemon start "$second" vmpaird
}
ended() { not daemon running "$first" vmpaird && not daemon running "$second" vmpaird; }
mend() { :; }
