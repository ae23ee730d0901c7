# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: cluster network parted: primary, third node | standby; healed
# moves: no
# third: yes
inject() { was=$standby; cut_off "$was" "c"; ASK=$holder; wait_for 20 not_sync; }
not_sync() { [ "$(pair_status "$holder" p1 | jq -r .sync)" != "$was" ]; }
mend() { unset ASK; heal; wait_for 60 lab_healthy; }
