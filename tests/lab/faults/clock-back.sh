# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: wall clock of all daemons on the standby's node stepped back by an hour; the primary's VM killed
# third: yes
# moves: yes
inject() {
	was=$standby
	step_clock "$was" -3600
	kill_vm "$holder"
	wait_moved "$holder"
	wait_for 20 pacemaker_is_off "$was"
}
mend() { whole 90; real_clock "$was"; }
