# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: /run of the primary's node full, to the last block; a switchover meanwhile
# moves: yes
# third: yes
# Registers have their blocks since the daemon began (store.c), so what has to be written can be.
inject() {
	was=$holder
	wait_for 10 filled
	on "$was" timeout 20 vmpair switchover p1
	log "/run after the switchover, bytes free: $(on "$was" df -B 1 --output=avail /run | tail -n 1)"
}
filled() { # and not a block more can be had: daemons that write anew what they have may give one back meanwhile
	on "$was" sh -c 'dd if=/dev/zero bs=4k >> /run/filler 2> /dev/null; ! dd if=/dev/zero bs=4k count=1 status=none >> /run/filler'
}
mend() { on "$was" rm -f /run/filler; }
