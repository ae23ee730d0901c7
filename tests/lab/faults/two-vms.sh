# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: VMs of primary and standby killed within 100 ms
# moves: yes
inject() {
	local one two
	one=$(host_vm "$holder") two=$(host_vm "$standby")
	at_once kill -KILL "$one" "$two"
}
mend() { :; }
