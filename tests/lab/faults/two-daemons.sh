# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: vmpaird of primary and standby killed within 100 ms, started again after 1 s
# third: yes
inject() {
	first=$holder second=$standby
	daemon kill "$first" vmpaird
	daemon kill "$second" vmpaird
	keep_for 1
	daemon start "$first" vmpaird
	daemon start "$second" vmpaird
}
mend() { :; }
