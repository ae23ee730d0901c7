#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Storage that fails while the VM goes on: writes that end with errors, which the template has told to the guest (error_policy report). And
# storage that does not answer: the file of a VM's disk is covered by one that a process serves (FUSE), and that process is stopped. Who looks
# at the file hangs; the daemon must not.
# vmpaird: yes
# timeout: 300
# full: yes
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=../pair.sh
. "$LAB_SRC/pair.sh"
# shellcheck source-path=SCRIPTDIR source=../trigger.sh
. "$LAB_SRC/trigger.sh"
lab_load
[ -c /dev/fuse ] || { echo 'skipped: no /dev/fuse'; exit 77; }
qemu-storage-daemon --help 2> /dev/null | find_line 'type=\]fuse' || { echo 'skipped: no qemu-storage-daemon that exports over FUSE'; exit 77; }

room=/var/lib/vmpair/disks
for n in $(lab_all); do
	on "$n" truncate -s 64M /etc/vmpair/p1.img
	on "$n" mkdir -p $room
	on "$n" mount -t tmpfs -o size=16m room $room
	sed -i -e "s|<memballoon|<disk type='file' device='disk'><driver name='qemu' type='raw' error_policy='report'/><source file='/etc/vmpair/p1.img'/><target dev='vda' bus='virtio'/></disk>&|" \
		"$LAB_DIR/$n/etc/vmpair/p1.xml"
done
triggers_begin hang_timeout=1min trigger_limit=16 on_storage=report storage_timeout=2s

step 'three I/O errors in a row, and the VM goes on: report'
policy on_io_error=report
in_guest "$primary" write
stays 4 "trigger io_error: I/O errors of $room/p1/vda.qcow2.*; reported only"
wait_for 90 event_seen "$primary" trigger-over 'trigger io_error' # none for a minute
as_before

step 'three I/O errors in a row: failover'
policy on_io_error=failover
in_guest "$primary" write
moved "trigger io_error: I/O errors of $room/p1/vda.qcow2.*; failover"
for n in $(lab_all); do on "$n" mount -o remount,size=96m room $room; done

file=$room/p1/vda.qcow2
server() { on "$primary" sh -c "kill -$1 \$(cat /run/slow.pid)"; } # server SIGNAL
covered() { on "$primary" findmnt -t fuse "$file" > /dev/null; }

step 'storage answers, by another process'
# the VM has the file beneath open and notices nothing
assert on "$primary" qemu-storage-daemon --daemonize --pidfile /run/slow.pid --blockdev driver=null-co,node-name=d,size=1048576,read-zeroes=on \
	--export "type=fuse,id=e,node-name=d,mountpoint=$file"
wait_for 10 covered
assert during 5 not status_says "$standby" p1 'trigger storage' > "$LAB_DIR/status.log"

step 'storage does not answer: report'
server STOP
stays 8 'trigger storage: the files of the VM.s disks do not answer; reported only'
server CONT
wait_for 20 event_seen "$primary" trigger-over 'trigger storage'

step 'storage does not answer: failover'
policy on_storage=failover
server STOP
moved 'trigger storage: the files of the VM.s disks do not answer; failover'
assert_eq "$pid" "$(member_pid p1 "$primary")" "$step: the VM stays, as standby"
server CONT
wait_for 20 event_seen "$primary" trigger-over 'trigger storage'
server TERM
wait_for 10 not covered
triggers_end
