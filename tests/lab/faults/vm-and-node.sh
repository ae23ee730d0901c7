# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# serves: no
# title: VM of the primary killed and node of the standby cut off within 100 ms; healed
# moves: yes
# nft waits for its input beforehand: on a busy machine a process takes longer to begin than the two may lie apart.
inject() {
	was=$standby vm=$(host_vm "$holder") ports=$(lab_ports "$standby")
	rm -f "$LAB_DIR/cut.in"
	mkfifo "$LAB_DIR/cut.in"
	(exec nsenter --net="$(lab_ns sw)" -- nft -f - < "$LAB_DIR/cut.in") &
	nft=$!
	exec {fd}> "$LAB_DIR/cut.in"
	wait_for 10 grep -qx nft "/proc/$nft/comm"
	at_once both
}
both() {
	kill -KILL "$vm"
	echo "add element bridge lab cut $ports" >&"$fd"
	exec {fd}>&-
	wait "$nft"
}
mend() { heal; wait_for 60 lab_healthy; }
