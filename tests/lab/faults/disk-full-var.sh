# shellcheck shell=bash disable=SC2034,SC2154,SC2317,SC2016
# SPDX-License-Identifier: GPL-2.0-or-later
# title: /var of the primary's node full: state, logs and Pacemaker's CIB; a switchover and a killed VM meanwhile
# moves: yes
# Nodes share the lab's memory disk, so these directories get a small one of their own; the daemon moves to it by a planned restart. Only the
# binding log stays where it was: without it nothing could be proved.
dirs='lib/vmpair log/vmpair lib/pacemaker'
inject() {
	was=$holder
	daemon stop "$was" vmpaird
	assert on "$was" sh -ec '
		mkdir /run/lab/small
		mount -t tmpfs -o size=4m small /run/lab/small
		for d in $1; do
			mkdir -p /run/lab/small/$d
			cp -a /var/$d/. /run/lab/small/$d/
			chown --reference=/var/$d /run/lab/small/$d
			chmod --reference=/var/$d /run/lab/small/$d
		done
		mount --bind /var/log/vmpair/binding.log /run/lab/small/log/vmpair/binding.log
		for d in $1; do mount --rbind /run/lab/small/$d /var/$d; done' sh "$dirs"
	daemon start "$was" vmpaird
	wait_for 20 pair_whole p1
	wait_for 10 filled
	on "$was" timeout 20 vmpair switchover p1
	whole 60
	kill_vm "$holder"
	wait_for 20 pair_holder_is p1 "$was"
	assert not on "$was" cp /proc/self/stat /var/lib/pacemaker/more # full to the end, for each of them
	assert not on "$was" cp /proc/self/stat /var/log/vmpair/more
	on "$was" rm -f /var/lib/pacemaker/more /var/log/vmpair/more
}
filled() { # and not a block more can be had, as in disk-full-run
	on "$was" sh -c 'dd if=/dev/zero bs=4k >> /run/lab/small/filler 2> /dev/null; ! dd if=/dev/zero bs=4k count=1 status=none >> /run/lab/small/filler'
}
mend() {
	on "$was" rm -f /run/lab/small/filler
	whole 90
	daemon stop "$was" vmpaird
	assert on "$was" sh -ec '
		for d in $1; do umount -R /var/$d; done
		umount /run/lab/small/log/vmpair/binding.log
		rm /run/lab/small/log/vmpair/binding.log
		for d in $1; do cp -a /run/lab/small/$d/. /var/$d/; done
		umount /run/lab/small
		rmdir /run/lab/small' sh "$dirs"
	daemon start "$was" vmpaird
}
