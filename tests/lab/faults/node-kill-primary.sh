# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: node of the primary loses power, comes back
# moves: yes
# third: yes
inject() { old=$holder; power_off "$old"; wait_moved "$old" 30; }
mend() { power_on "$old"; wait_for 90 lab_healthy; }
