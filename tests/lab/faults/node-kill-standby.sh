# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: node of the standby loses power, comes back
# moves: no
inject() { was=$standby; power_off "$was"; ASK=$holder; wait_for 20 not_sync; }
not_sync() { [ "$(pair_status "$holder" p1 | jq -r .sync)" != "$was" ]; }
mend() { unset ASK; power_on "$was"; wait_for 90 lab_healthy; }
