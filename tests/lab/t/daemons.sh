#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What vmpaird lives with: libvirtd, corosync and Pacemaker away, frozen or restarted, and a guest that reboots itself. Two pairs over the
# same nodes; nothing of this is by itself a reason for a failover, and every failover that has one happens all the same.
# vmpaird: yes
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=../pair.sh
. "$LAB_SRC/pair.sh"
lab_load

entry=${LAB_ENTRY[0]}
pair_create 1
pair_create 2 n2
roles() {
	holder=$(pair_primary p1)
	standby=$(pair_standby p1)
	epoch=$(pair_epoch p1)
}
whole() { # whole PAIR [SECONDS]
	wait_for "${2:-90}" pair_whole "$1" || fail "$1 does not become whole"
	roles
}
moved() { [ "$(ASK=$standby pair_primary p1)" = "$standby" ] && probe_answers "$entry" "p1-${standby#n}"; }
has_vm() { on "$1" pgrep -f "guest=$2," > /dev/null; } # has_vm NODE PAIR: its process
daemon_pid() { on "$1" cat /run/lab/vmpaird.pid; }

whole p1
whole p2
probe_start "$entry"
pids=()
for n in $(lab_all); do pids+=("$(daemon_pid "$n")"); done

log 'the guest of the primary reboots itself: not an exit'
pid=$(vm_pid "$holder" p1)
before=$(events_count "$holder" p1 rebooted)
silent=$(events_count "$holder" p1 not-ready)
in_guest "$holder" reboot
wait_for 10 events_more "$holder" p1 rebooted "$before" || fail 'the reboot is not on record'
wait_for 30 events_more "$holder" p1 not-ready "$silent"
whole p1 120
wait_for 20 probe_answers "$entry" p1-
assert_eq "$pid" "$(vm_pid "$holder" p1)" 'process of the VM after its reboot'
assert_eq "$epoch" "$(pair_epoch p1)" 'epoch after a reboot of the guest'

log 'a standby whose readiness check does not answer is not promoted, neither by vmpair nor by Pacemaker'
mute=$standby
in_guest "$mute" mute
not_ready() { pair_status "$holder" p1 | jq -e --arg n "$mute" '.members[] | select(.node == $n) | .ready | not' > /dev/null; }
wait_for 30 not_ready || fail 'the mute standby counts as ready'
out=$(on "$holder" vmpair switchover p1 2>&1) && fail "switched over to a member that is not ready: $out"
on "$holder" crm_resource --move --promoted -r p1-clone -N "$mute" > "$LAB_DIR/move.log" 2>&1 || fail "move: $(cat "$LAB_DIR/move.log")"
# Pacemaker demotes first, whatever can be promoted: until the move is taken back the pair may have no primary
uptime_ms
end=$((REPLY + 8000))
while [ "$REPLY" -lt "$end" ]; do
	[ "$(pair_primary p1)" != "$mute" ] || fail "$mute was promoted though its member is not ready"
	sleep 0.2
	uptime_ms
done
on "$holder" crm_resource --clear -r p1-clone > /dev/null 2>&1
on "$mute" virsh -q reset p1 > /dev/null
whole p1 120
assert_eq "$pid" "$(vm_pid "$holder" p1)" 'process of the VM'

log 'libvirtd killed and started again on all nodes: status says so, no failover, no gap'
probe_mark libvirtd
for n in $(lab_all); do daemon kill "$n" libvirtd; done
for n in $(lab_all); do wait_for 15 cluster_says "$n" libvirt down || fail "$n does not miss libvirtd"; done
assert_eq "$epoch" "$(pair_epoch p1)" 'epoch without libvirtd'
for n in $(lab_all); do daemon start "$n" libvirtd; done
for n in $(lab_all); do wait_for 30 cluster_says "$n" libvirt up || fail "$n does not find libvirtd again"; done
whole p1 20
assert_eq "$pid" "$(vm_pid "$holder" p1)" 'process of the VM'
assert_eq "$epoch" "$(pair_epoch p1)" 'epoch after the restart of libvirtd'

log 'libvirtd frozen: a stop ends by killing the process; the other pair fails over meanwhile as ever'
probe_mark frozen
busy=$holder # a node that has members of both: of two pairs on three nodes there is one
if ! has_vm "$busy" p2; then
	on "$holder" vmpair switchover p1 > /dev/null
	whole p1
	busy=$holder
fi
has_vm "$busy" p2 || fail 'no node has members of both pairs'
before=$(events_count "$busy" p2 stopping)
daemon freeze "$busy" libvirtd
on "$standby" crm_resource --ban -r p2-clone -N "$busy" > "$LAB_DIR/ban.log" 2>&1 || fail "ban: $(cat "$LAB_DIR/ban.log")"
wait_for 10 events_more "$busy" p2 stopping "$before" || fail 'no stop of p2'
pid=$(vm_pid "$busy" p1)
on "$busy" kill -KILL "$pid"
(
	ASK=$standby
	wait_for 10 moved
) || fail 'p1 waits for the libvirtd that hangs with p2'
wait_for 30 not has_vm "$busy" p2 || fail 'the VM whose stop libvirtd never answers is still there'
daemon thaw "$busy" libvirtd
on "$standby" crm_resource --clear -r p2-clone -N "$busy" > /dev/null 2>&1
whole p1
whole p2

log 'corosync killed on the node of the standby, then of the primary: the daemon goes on, the pair becomes whole again'
for n in "$standby" "$holder"; do
	ask=$(lab_all | grep -v "$n" | head -n 1)
	daemon kill "$n" corosync
	wait_for 15 cluster_says "$n" corosync down || fail "$n does not miss corosync"
	wait_for 30 not sees_node "$ask" "$n"
	daemon start "$n" corosync
	wait_for 30 cluster_says "$n" corosync up || fail "$n does not find corosync again"
	daemon start "$n" pacemaker # where it ended with corosync; newer ones wait for it
	wait_for 60 lab_healthy
	whole p1 120
	whole p2 120
done

log 'Pacemaker killed on all nodes: the fast path alone; when it is back, both tell the same story'
for n in $(lab_all); do daemon kill "$n" pacemaker; done
probe_mark alone
on "$holder" kill -KILL "$(vm_pid "$holder" p1)"
(
	ASK=$standby
	wait_for 10 moved
) || fail 'no failover without Pacemaker'
wait_for 20 cluster_says "$standby" pacemaker absent || fail 'the new primary does not miss Pacemaker'
for n in $(lab_all); do daemon start "$n" pacemaker; done
wait_for 60 lab_healthy
whole p1 120
whole p2 120

i=0
for n in $(lab_all); do
	assert_eq "${pids[i]}" "$(daemon_pid "$n")" "vmpaird on $n outlived all this: process"
	assert daemon running "$n" vmpaird
	i=$((i + 1))
done

log 'started by a service manager, before corosync and libvirtd: ready, says so, feeds the watchdog, and takes part when they come'
n=$standby notes=$LAB_DIR/notify.log
told() { grep -Eq "^[0-9]+ $1\$" "$notes"; }
fed() { [ "$(grep -c ' WATCHDOG=1$' "$notes")" -ge "$1" ]; }
for d in pacemaker vmpaird corosync libvirtd; do daemon stop "$n" $d; done
mkfifo "$LAB_DIR/listen"
exec {listen}<> "$LAB_DIR/listen" # it listens until this is closed
on "$n" "$LAB_BUILD/tests/lab/hurt" notify /run/lab/notify < "$LAB_DIR/listen" > "$notes" {listen}>&- &
listener=$!
wait_for 5 grep -qx listening "$notes"
on "$n" env NOTIFY_SOCKET=/run/lab/notify "$LAB_SRC/node.sh" start vmpaird
wait_for 15 told READY=1 || fail 'no READY=1 without corosync'
wait_for 5 told 'STATUS=waiting for corosync'
wait_for 15 cluster_says "$n" corosync down || fail 'no status from a daemon without corosync'
wait_for 15 cluster_says "$n" libvirt down || fail 'no status from a daemon without libvirtd'
wait_for 10 fed 5 || fail 'the watchdog is not fed'
if on "$n" chrt -r 1 true 2> /dev/null; then
	assert_eq RR "$(on "$n" ps -o cls= -p "$(daemon_pid "$n")" | tr -d ' ')" 'scheduling class of vmpaird'
fi
# shellcheck disable=SC2016 # expanded inside the node
on "$n" sh -c 'awk "/^VmLck/ && \$2 > 0 {found = 1} END {exit !found}" "/proc/$(cat /run/lab/vmpaird.pid)/status"' || fail 'memory is not locked'
daemon start "$n" libvirtd
wait_for 30 cluster_says "$n" libvirt up
daemon start "$n" corosync
wait_for 30 cluster_says "$n" corosync up
wait_for 30 told 'STATUS=taking part' || fail 'no STATUS of taking part'
daemon start "$n" pacemaker
wait_for 60 lab_healthy
whole p1 120
daemon stop "$n" vmpaird
wait_for 5 told STOPPING=1 || fail 'no STOPPING=1'
longest=$(awk '$2 == "WATCHDOG=1" {if (last && $1 - last > max) max = $1 - last; last = $1} END {print max + 0}' "$notes")
limit=$(sed -n 's/^WatchdogSec=\([0-9]*\).*/\1/p' "$LAB_TOP/daemon/vmpaird.service.in")
assert_le "$longest" $((limit * 1000 / 2)) 'longest time between two words to the watchdog, in ms'
exec {listen}>&-
wait "$listener"
probe_stop
assert_le "$(probe_value libvirtd 'max_gap_ms | floor')" 500 'gap while libvirtd restarts, in ms'
