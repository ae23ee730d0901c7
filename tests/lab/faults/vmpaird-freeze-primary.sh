# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: vmpaird of the primary frozen, thawed after the lease
# moves: yes
# third: yes
inject() { old=$holder; daemon freeze "$old" vmpaird; wait_moved "$old"; }
mend() { daemon thaw "$old" vmpaird; }
