# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: Pacemaker restarted on the primary's node: it moves the pair away first
# moves: yes
inject() {
	was=$holder
	daemon stop "$was" pacemaker
	daemon start "$was" pacemaker
}
mend() { wait_for 60 lab_healthy; }
