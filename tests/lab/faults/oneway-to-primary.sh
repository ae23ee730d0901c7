# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: the primary's node hears nobody, all hear it; healed
# third: yes
inject() { old=$holder; for n in $(lab_all); do [ "$n" = "$old" ] || drop_from_to "$n" "$old" c; done; ASK=$standby; wait_moved "$old" 30; }
mend() { unset ASK; heal; wait_for 60 lab_healthy; }
