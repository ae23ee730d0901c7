# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: VM of the primary killed
# moves: yes
# third: yes
inject() { old=$holder; kill_vm "$holder"; wait_moved "$old"; }
mend() { :; }
