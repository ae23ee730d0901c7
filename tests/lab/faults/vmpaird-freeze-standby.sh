# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: vmpaird of the standby frozen, thawed
# moves: no
inject() { was=$standby; daemon freeze "$was" vmpaird; wait_for 20 lost; }
lost() { [ "$(pair_status "$holder" p1 | jq -r .mode)" != sync ]; }
mend() { daemon thaw "$was" vmpaird; }
