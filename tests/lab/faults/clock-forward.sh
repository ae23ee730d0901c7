# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: wall clock of vmpaird and libvirtd on the standby's node stepped forward by an hour; the primary's VM killed
# moves: yes
inject() { was=$standby; step_clock "$was" +3600; kill_vm "$holder"; wait_moved "$holder"; }
mend() { whole 90; real_clock "$was"; }
