#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A virtual machine under ocf:heartbeat:VirtualDomain, monitor every 10 s: its qemu is killed.
# metrics: failover.vm_kill.virtualdomain monitor.virtualdomain
# vmpaird: no
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

entry=${LAB_ENTRY[0]}
lab_virtualdomain
wait_for 90 probe_answers "$entry"
node=$(rsc_node n1 vm)

if wanted monitor.virtualdomain; then
	bench_monitor monitor.virtualdomain "$node" heartbeat/VirtualDomain OCF_RESOURCE_INSTANCE=vm \
		OCF_RESKEY_config=/etc/libvirt/p1.xml OCF_RESKEY_hypervisor=qemu:///system
fi
wanted failover.vm_kill.virtualdomain || exit 0

probe_start "$entry"
for ((i = 1; i <= RUNS; i++)); do
	node=$(rsc_node n1 vm)
	pid=$(vm_pid "$node" p1)
	random_delay 10
	probe_mark "kill $i"
	on "$node" kill -KILL "$pid"
	wait_gap 120 1000
done
probe_stop
sample_gaps failover.vm_kill.virtualdomain kill
