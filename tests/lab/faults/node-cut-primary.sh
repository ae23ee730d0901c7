# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: node of the primary cut off, healed
# moves: yes
# third: yes
inject() { old=$holder; cut_off "$old"; wait_moved "$old" 30; }
mend() { heal; wait_for 60 lab_healthy; }
