# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# serves: no
# title: 30 % of the packets lost on the cluster network
# third: yes
inject() { lossy 30; during 8 true; }
lossy() { in_switch nft add rule bridge lab through iifname '{ "n1c", "n2c", "n3c" }' numgen random mod 100 '<' "$1" drop; }
mend() { in_switch nft -a list chain bridge lab through | awk '/numgen/ {print $NF}' | while read -r h; do in_switch nft delete rule bridge lab through handle "$h"; done; wait_for 60 lab_healthy; }
during() { local end; uptime_ms; end=$((REPLY + $1 * 1000)); while [ "$REPLY" -lt "$end" ]; do sleep 0.2; uptime_ms; done; }
