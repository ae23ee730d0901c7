# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: cluster network parted: primary, third node | standby; healed as soon as corosync has noticed
# moves: no
# The memberships merge before Pacemaker has stopped the member that has retired meanwhile: it must not count three of them.
inject() { was=$standby; cut_off "$was" "c"; wait_for 30 cluster_says "$was" quorate false; }
mend() { heal; wait_for 60 lab_healthy; }
