#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Triggers of the guest, each with its policies, under a client's load: panic, hang, power-off from inside; and a VM that an operator pauses,
# which is no trigger. After each: one primary, no second copy of a member, and the cause is on record.
# vmpaird: yes
# timeout: 600
# full: yes
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=../pair.sh
. "$LAB_SRC/pair.sh"
# shellcheck source-path=SCRIPTDIR source=../trigger.sh
. "$LAB_SRC/trigger.sh"
lab_load
triggers_begin hang_timeout=3s trigger_limit=16

step 'panic: failover'
in_guest "$primary" panic
moved 'trigger panic: the guest.s kernel panicked; failover'

step 'panic: report'
policy on_panic=report
in_guest "$primary" panic
stays 4 'trigger panic: the guest.s kernel panicked; reported only'
assert on "$primary" virsh -q reset p1
assert on "$primary" virsh -q resume p1
as_before

step 'panic: restart:1'
policy on_panic=restart:1
in_guest "$primary" panic
wait_for 20 event_seen "$primary" reset 'because of trigger panic'
as_before
goes_on 'panic: the second one, failover' # its client counts anew: before, it waited for a guest that booted
in_guest "$primary" panic
moved 'trigger panic: the guest.s kernel panicked; failover'

step 'paused by an operator'
assert on "$primary" virsh -q suspend p1
stays 8 'its VM is paused by hand: no failover'
assert on "$primary" virsh -q resume p1
as_before
during 4 still # what a pause left behind does not count afterwards

step 'hang: report'
policy on_hang=report
in_guest "$primary" hang
stays 6 'trigger hang: nothing was heard of the guest for .* ms; reported only'

goes_on 'hang: failover' # of the same guest: the policy counts, not when it hung; its client has waited all the time
assert on n1 pcs resource update p1 on_hang=failover
GAP_MS=60000 moved 'trigger hang: nothing was heard of the guest for .* ms; failover'

step 'hang: restart:1'
policy on_hang=restart:1
in_guest "$primary" hang
wait_for 20 event_seen "$primary" reset 'because of trigger hang'
as_before
goes_on 'hang: the second one, failover'
in_guest "$primary" hang
moved 'trigger hang: nothing was heard of the guest for .* ms; failover'

step 'hang of a standby: restart:1'
in_guest "$standby" hang
wait_for 20 event_seen "$standby" reset 'because of trigger hang'
as_before

step 'hang of a standby: the second one'
pid=$(member_pid p1 "$standby")
in_guest "$standby" hang
wait_for 30 event_seen "$standby" trigger 'trigger hang: .*; the member is replaced'
wait_for 60 another_member p1 "$standby" "$pid"
still
whole p1

step 'power-off from inside: failover'
in_guest "$primary" poweroff
moved 'guest powered off'

step 'power-off from inside: report'
policy on_shutdown=report
in_guest "$primary" poweroff
wait_for 10 event_seen "$primary" trigger 'trigger shutdown: the guest shut itself down; reported only'
still || event_seen "$primary" cause 'Pacemaker demotes' || fail "$step: it was moved" # nothing moves by itself
wait_for 60 moved_away # Pacemaker's monitor finds it, and its demote hands over
event_seen "$primary" cause 'Pacemaker demotes' || fail "$step: moved without Pacemaker"
whole p1
not_moved_by trigger

step 'triggers move a pair only so often'
policy trigger_limit=1 trigger_window=5min on_panic=failover on_shutdown=failover
in_guest "$primary" panic
wait_for 20 event_seen "$primary" trigger 'trigger panic: .*; the guest is reset: triggers have moved the pair as often as trigger_limit allows'
wait_for 30 event_seen "$primary" reset 'because of trigger panic'
as_before
triggers_end
