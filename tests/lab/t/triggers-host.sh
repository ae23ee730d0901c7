#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Triggers of the application, the devices and the host, each with its policies, under a client's load: health check, watchdog, I/O errors,
# storage, uplink, overload.
# vmpaird: yes
# timeout: 500
# full: yes
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=../pair.sh
. "$LAB_SRC/pair.sh"
# shellcheck source-path=SCRIPTDIR source=../trigger.sh
. "$LAB_SRC/trigger.sh"
lab_load

room=/var/lib/vmpair/disks
for n in $(lab_all); do # a disk whose overlay has little room, and a watchdog
	on "$n" truncate -s 64M /etc/vmpair/p1.img
	on "$n" mkdir -p $room
	on "$n" mount -t tmpfs -o size=16m room $room
	sed -i -e "s|<memballoon|<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/etc/vmpair/p1.img'/><target dev='vda' bus='virtio'/></disk><watchdog model='i6300esb' action='reset'/>&|" \
		"$LAB_DIR/$n/etc/vmpair/p1.xml"
done
triggers_begin hang_timeout=1min trigger_limit=16 health='command:/usr/bin/test ! -e /run/sick' health_interval=500ms uplink=up0 on_uplink=report

step 'watchdog: report'
policy on_watchdog=report
in_guest "$primary" dog
stays 4 'trigger watchdog: the guest did not feed its watchdog; reported only'

step 'watchdog: restart:1'
policy on_watchdog=restart:1 # of the one that is raised
wait_for 20 event_seen "$primary" reset 'because of trigger watchdog'
as_before

step 'watchdog: failover'
in_guest "$primary" dog
moved 'trigger watchdog: the guest did not feed its watchdog; failover'

step 'health by command: report'
policy on_health=report
on "$primary" touch /run/sick
stays 4 'trigger health: the command ended with status 1; reported only'
on "$primary" rm /run/sick
wait_for 10 event_seen "$primary" trigger-over 'trigger health'

step 'health by command: failover'
policy on_health=failover
on "$primary" touch /run/sick
moved 'trigger health: the command ended with status 1; failover'
on "$primary" rm /run/sick

step 'health by tcp: restart:1'
policy health=tcp:80 on_health=restart:1
in_guest "$primary" deaf # its port is closed until it boots
wait_for 20 event_seen "$primary" reset 'because of trigger health'
as_before
goes_on 'health by tcp: the second one, failover'
in_guest "$primary" deaf
moved 'trigger health: .*; failover'

step 'health by http: failover'
policy health=http:80/ health_timeout=1s on_health=failover
sleep_until_asked() { event_seen "$primary" reloaded '' && during 3 answered; }
answered() { probe_answers "${LAB_ENTRY[0]}"; }
wait_for 10 sleep_until_asked
in_guest "$primary" hang
moved 'trigger health: .* in time; failover'

step 'disk is full: report'
policy on_io_error=report
in_guest "$primary" write
stays 3 'trigger io_error: the VM was stopped by an I/O error of a disk; reported only'
on "$primary" mount -o remount,size=96m room $room
assert on "$primary" virsh -q resume p1
as_before

step 'disk is full: failover'
if [ "$(on "$primary" df --output=size -m $room | tail -n 1)" -gt 90 ]; then # written full before: the other one is not
	assert on "$primary" vmpair switchover p1
	whole p1
	now_primary
	PROBE=p1 probe_mark "$step"
fi
policy on_io_error=failover
in_guest "$primary" write
moved 'trigger io_error: the VM was stopped by an I/O error of a disk; failover'
for n in $(lab_all); do on "$n" mount -o remount,size=96m room $room; done

step 'storage: report'
policy on_storage=report
on "$primary" mv $room/p1/vda.qcow2 $room/p1/away
stays 4 'trigger storage: .*/vda.qcow2: No such file or directory; reported only'
on "$primary" mv $room/p1/away $room/p1/vda.qcow2
wait_for 20 event_seen "$primary" trigger-over 'trigger storage'

step 'storage: failover'
policy on_storage=failover
on "$primary" mv $room/p1/vda.qcow2 $room/p1/away
moved 'trigger storage: .*; failover'
assert_eq "$pid" "$(member_pid p1 "$primary")" "$step: the VM stays, as standby"
on "$primary" mv $room/p1/away $room/p1/vda.qcow2
wait_for 20 event_seen "$primary" trigger-over 'trigger storage'

step 'uplink: report'
link_down "$primary" u
stays 3 'trigger uplink: uplink up0 has no carrier; reported only'
link_up "$primary" u
wait_for 10 event_seen "$primary" trigger-over 'trigger uplink'
as_before

step 'uplink: failover'
policy on_uplink=failover
link_down "$primary" u
moved 'trigger uplink: uplink up0 has no carrier; failover'
assert_eq "$pid" "$(member_pid p1 "$primary")" "$step: the VM stays, as standby"

step 'uplink of both hosts' # the old primary's is down still
link_down "$primary" u
stays 4 "trigger uplink: uplink up0 has no carrier; reported only: the standby's host has the same trouble"
link_up "$standby" u
moved 'trigger uplink: uplink up0 has no carrier; failover' # now there is a better one
link_up "$primary" u

step 'overload: report, then failover'
policy overload=load:20000
on "$primary" sh -c 'echo "900.00 1.00 1.00 1/1 1" > /run/load; mount --bind /run/load /proc/loadavg'
stays 3 'trigger overload: load average per processor: .*; reported only'
policy on_overload=failover
moved 'trigger overload: load average per processor: .*; failover'
on "$primary" umount /proc/loadavg

if [ -r /proc/pressure/cpu ]; then
	step 'overload in earnest' # the lab's hosts are one machine, so both have it
	policy overload=cpu:50
	keep_busy $((4 * $(nproc))) 30 &
	busy=$!
	stays 3 "trigger overload: share of time .*; reported only: the standby's host has the same trouble"
	wait $busy
fi
triggers_end
