# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# serves: no
# title: VM of the primary killed and node of the standby cut off within 100 ms; healed
# moves: yes
inject() {
	was=$standby vm=$(host_vm "$holder")
	at_once both
}
both() {
	kill -KILL "$vm"
	cut_off "$was"
}
mend() { heal; wait_for 60 lab_healthy; }
