# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: /run of the primary's node full: what cannot be written is not promised
inject() {
	was=$holder
	on "$was" sh -c 'dd if=/dev/zero of=/run/filler bs=64k 2> /dev/null || true'
	on "$(a_node)" timeout 20 vmpair switchover p1 > "$LAB_DIR/full.log" 2>&1 || true
}
mend() { on "$was" rm -f /run/filler; }
