# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: corosync and Pacemaker restarted on the standby's node
inject() {
	was=$standby
	daemon stop "$was" pacemaker
	daemon stop "$was" corosync
	daemon start "$was" corosync
	wait_for 30 on "$was" corosync-cmapctl -g runtime.votequorum.this_node_id
	daemon start "$was" pacemaker
}
mend() { wait_for 60 lab_healthy; }
