# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: libvirtd killed on the primary's node, started again
# moves: no
# third: yes
inject() { was=$holder; daemon kill "$was" libvirtd; wait_for 15 cluster_says "$was" libvirt down; }
mend() { daemon start "$was" libvirtd; wait_for 30 cluster_says "$was" libvirt up; }
