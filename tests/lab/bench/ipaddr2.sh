#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# An address under ocf:heartbeat:IPaddr2 in front of a service that runs on every node: the node that has it is cut off
# (token 1000 ms, no fencing); it is moved.
# metrics: failover.node_cut.ipaddr2 failover.switchover.ipaddr2 monitor.ipaddr2
# vmpaird: no
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

ip=${LAB_ENTRY[0]}
for n in $(lab_all); do daemon start "$n" svc; done
on n1 pcs resource create ip ocf:heartbeat:IPaddr2 ip="$ip" cidr_netmask=24 nic=br-entry op monitor interval=10s \
	meta resource-stickiness=1000 >&2
wait_for 30 probe_answers "$ip"
holder() { rsc_node "$1" ip; }
holder_is() { [ "$(holder "$1")" = "$2" ]; }                            # holder_is ASKED NODE
one_holder() { [ "$(holder n1 | wc -l)" = 1 ]; } # in the middle of a move Pacemaker may name both
has_address() { on_net "$1" ip -br addr show br-entry | find_line -F "$ip/"; }

if wanted monitor.ipaddr2; then
	bench_monitor monitor.ipaddr2 "$(holder n1)" heartbeat/IPaddr2 OCF_RESOURCE_INSTANCE=ip OCF_RESKEY_ip="$ip" \
		OCF_RESKEY_cidr_netmask=24 OCF_RESKEY_nic=br-entry
fi

probe_start "$ip"
if wanted failover.switchover.ipaddr2; then
	for ((i = 1; i <= RUNS; i++)); do
		wait_for 30 one_holder
		from=$(holder n1)
		to=$([ "$from" = n1 ] && echo n2 || echo n1)
		probe_mark "move $i"
		on n1 crm_resource -q -M -r ip -N "$to" >&2
		wait_for 30 probe_saw "change .* $from $to\$"
		wait_for 30 holder_is n1 "$to"
		on n1 crm_resource -q -U -r ip >&2
	done
fi
if wanted failover.node_cut.ipaddr2; then
	for ((i = 1; i <= RUNS; i++)); do
		wait_for 30 one_holder
		from=$(holder n1)
		probe_mark "cut $i"
		cut_off "$from"
		wait_for 60 probe_saw "change .* $from "
		# the cut-off node gives the address up when it has no quorum; then it may come back
		wait_for 60 not has_address "$from"
		probe_mark "heal $i"
		heal "$from"
		wait_for 120 lab_healthy
		wait_for 30 probe_answers "$ip"
		done
fi
probe_stop
! wanted failover.switchover.ipaddr2 || sample_gaps failover.switchover.ipaddr2 move
! wanted failover.node_cut.ipaddr2 || sample_gaps failover.node_cut.ipaddr2 cut
