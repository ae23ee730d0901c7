#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# An address moved by keepalived (VRRP version 3, adverts every 100 ms): the master is cut off.
# metrics: failover.node_cut.keepalived_100ms
# vmpaird: no
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

ip=${LAB_ENTRY[0]}
for n in n1 n2; do
	lab_keepalived_conf "$n" "$ip" > "$LAB_DIR/$n/etc/keepalived/keepalived.conf"
	daemon start "$n" svc
	daemon start "$n" keepalived
done
has() { on_net "$1" ip -br addr show br-entry | find_line -F "$ip/"; }
only_n1() { has n1 && ! has n2; }
wait_for 30 only_n1

probe_start "$ip"
for ((i = 1; i <= RUNS; i++)); do
	wait_for 30 probe_answers "$ip" n1
	random_delay 1
	probe_mark "cut $i"
	cut_off n1
	wait_for 30 probe_saw 'change .* n1 n2$'
	# both are masters after this; the higher priority wins and announces itself
	probe_mark "heal $i"
	heal n1
	wait_for 30 only_n1
	wait_for 30 probe_saw 'change .* n2 n1$'
done
probe_stop
sample_gaps failover.node_cut.keepalived_100ms cut
