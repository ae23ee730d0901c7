# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: libvirtd restarted on the primary's node
# moves: no
inject() {
	daemon stop "$holder" libvirtd
	daemon start "$holder" libvirtd
	wait_for 30 on "$holder" virsh -q uri
	wait_for 20 cluster_says "$holder" libvirt up
}
mend() { :; }
