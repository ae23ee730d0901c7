# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: /var/lib/vmpair of the primary's node full; a switchover and a killed VM meanwhile
# moves: yes
# Nodes share the lab's memory disk, so the directory gets a small one of its own; the daemon moves to it by a planned restart.
inject() {
	was=$holder
	daemon stop "$was" vmpaird
	on "$was" sh -c 'mkdir /run/lab/small && mount -t tmpfs -o size=1m small /run/lab/small && cp -a /var/lib/vmpair/. /run/lab/small/ &&
		mount --bind /run/lab/small /var/lib/vmpair'
	daemon start "$was" vmpaird
	wait_for 20 pair_whole p1
	on "$was" sh -c 'dd if=/dev/zero of=/var/lib/vmpair/filler bs=4k 2> /dev/null || true'
	assert not on "$was" dd if=/dev/zero of=/var/lib/vmpair/more bs=4k count=1 status=none
	on "$was" rm -f /var/lib/vmpair/more
	on "$was" timeout 20 vmpair switchover p1
	whole 60
	kill_vm "$holder"
	wait_for 20 pair_holder_is p1 "$was"
}
mend() {
	on "$was" rm -f /var/lib/vmpair/filler
	whole 90
	daemon stop "$was" vmpaird
	on "$was" sh -c 'umount /var/lib/vmpair && cp -a /run/lab/small/. /var/lib/vmpair/ && umount /run/lab/small && rmdir /run/lab/small'
	daemon start "$was" vmpaird
}
