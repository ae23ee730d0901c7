# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: ten switchovers, each as soon as the pair is whole
# moves: yes
inject() {
	local i
	for i in 1 2 3 4 5 6 7 8 9 10; do
		on "$(a_node)" vmpair switchover p1 > "$LAB_DIR/storm.log" 2>&1 || fail "switchover $i: $(cat "$LAB_DIR/storm.log")"
		whole 60 || fail "not whole after switchover $i"
	done
}
mend() { :; }
