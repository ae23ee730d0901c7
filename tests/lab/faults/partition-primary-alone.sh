# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: cluster network parted: primary | standby, third node; healed
# moves: yes
inject() { old=$holder; cut_off "$old" "c"; ASK=$standby; wait_moved "$old" 30; }
mend() { unset ASK; heal; wait_for 60 lab_healthy; }
