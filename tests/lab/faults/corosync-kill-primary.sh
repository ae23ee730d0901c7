# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: corosync killed on the primary's node, started again
# third: yes
inject() { was=$holder; daemon kill "$was" corosync; wait_for 20 alone_there; }
alone_there() { [ "$(on "$was" timeout 5 vmpair status --output=json | jq -r .cluster.corosync)" != up ]; }
mend() { daemon kill "$was" pacemaker; daemon start "$was" corosync; wait_for 30 on "$was" corosync-cmapctl -g runtime.votequorum.this_node_id; daemon start "$was" pacemaker; }
