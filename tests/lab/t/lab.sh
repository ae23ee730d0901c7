#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The lab itself: cluster, guests with one entry MAC, faults of nodes and network, the reaper. No vmpaird.
# vmpaird: no
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
lab_load

entry=${LAB_ENTRY[0]} mac=${LAB_ENTRY_MAC[0]}

log 'quorum and DC'
assert quorate n1
assert lab_healthy
dc=$(lab_dc n1)
[[ $dc == n[123] ]] || fail "no DC: '$dc'"
assert_eq aes256 "$(on n1 corosync-cmapctl -g totem.crypto_cipher | awk '{print $NF}')" cipher

log 'pcs and crm work without pcsd'

assert on n2 pcs resource create dummy ocf:pacemaker:Dummy op monitor interval=10s
wait_for 20 eval "on n3 crm_resource -q -W -r dummy | find_line ."
assert on n1 crm resource stop dummy
assert on n1 pcs resource delete dummy

log 'a guest answers, over IPv4 and IPv6'
vm_start n1 p1 "$mac" p1-1 "$entry/24 ${LAB_ENTRY6[0]}/64" 192.168.77.1/24
wait_for 60 probe_answers "$entry" p1-1
assert probe_answers "[${LAB_ENTRY6[0]}]" p1-1

log 'a second one with the same MAC on another node is kept apart until the first is gone'
on_net n2 nft 'table bridge hold { chain c { type filter hook forward priority 0; iifname "vnet0" drop; oifname "vnet0" drop; }; }'
vm_start n2 p1 "$mac" p1-2 "$entry/24" 192.168.77.2/24
wait_for 60 pings n1 192.168.77.2
probe_start "$entry"
probe_mark steady
assert in_client ping -c 20 -i 0.02 -q "$entry" > /dev/null
assert probe_answers "$entry" p1-1

log 'qemu killed: libvirt notices within 2 s, because process 1 reaps'
probe_mark killed
pid=$(vm_pid n1 p1)
uptime_ms; t0=$REPLY
assert on n1 kill -KILL "$pid"
wait_for 2 not vm_running n1 p1
uptime_ms; log "libvirt noticed after $((REPLY - t0)) ms"
on_net n2 nft delete table bridge hold
wait_for 20 probe_saw 'change .* p1-1 p1-2$'

log 'a cut node keeps its carrier and loses everything else'
probe_mark cut
cut_off n2
wait_for 10 not probe_answers "$entry"
assert_eq 1 "$(on n2 cat /sys/class/net/up0/carrier)" carrier
assert not pings n2 10.78.0.1
wait_for 30 not quorate n2
wait_for 30 not sees_node n1 n2
assert quorate n1
heal n2
wait_for 20 probe_answers "$entry" p1-2
wait_for 60 lab_healthy
probe_stop
assert_eq true "$(probe_value killed 'max_gap_ms > 5')" 'a gap was seen'
[ "$(probe_value cut lost)" -gt 0 ] || fail 'nothing was lost while the node was cut off'

log 'one direction of one plane can be dropped'
drop_from_to n1 n3 c
assert not pings n1 10.78.0.3
assert pings n1 10.77.0.3
heal
assert pings n1 10.78.0.3

log 'power loss takes all of a node with it, and it comes back with its disks'
on n3 touch /var/lib/vmpair/kept
power_off n3
assert not pings n1 10.77.0.3
wait_for 30 not sees_node n1 n3
power_on n3
assert on n3 test -e /var/lib/vmpair/kept
wait_for 90 lab_healthy

log 'a frozen daemon goes on when thawed'
daemon freeze n1 libvirtd
assert not timeout 1 "$LAB_SRC/lab.sh" on n1 virsh -q list
daemon thaw n1 libvirtd
assert on n1 virsh -q list
