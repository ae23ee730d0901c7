#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A hang is noticed through the QEMU guest agent where no vmpair-guest runs: an agent that answers, that is silent (with its guest, or
# alone), and one that was ended, which says nothing about the guest.
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

for n in $(lab_all); do
	sed -i -e 's|nokaslr|& vmpair.apps=agent|' \
		-e "s|<memballoon|<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>&|" "$LAB_DIR/$n/etc/vmpair/p1.xml"
done
asked() { on "$1" virsh -q qemu-agent-command --timeout 5 p1 '{"execute":"guest-info"}' | jq .return; } # how often by the daemon
heard() { # heard NODE COUNT: asked twice more: the first of the answers has been taken
	local now
	now=$(asked "$1") && [ "$now" -ge $(($2 + 2)) ]
}
all_heard() { # of both members
	for n in $primary $standby; do wait_for 30 heard "$n" 0 || fail "$step: the agent on $n is not asked"; done
}
quiet() { still && ! status_says "$standby" p1 'trigger hang' > "$LAB_DIR/status.log"; }
agent_port() { on "$1" virsh -q dumpxml p1 | find_line "name='org.qemu.guest_agent.0' state='$2'"; }

triggers_begin hang_timeout=3s trigger_limit=16 on_hang=report

goes_on 'the agent answers'
all_heard
assert during 5 quiet # longer than hang_timeout
assert not event_seen "$primary" guest heard

goes_on 'the agent alone is silent: report, and over when it answers again'
in_guest "$primary" agent-stop
stays 3 'trigger hang: nothing was heard of the guest for .* ms; reported only'
in_guest "$primary" agent-go
wait_for 20 event_seen "$primary" trigger-over 'trigger hang'
as_before

goes_on 'the agent is ended: nothing follows'
all_heard
in_guest "$primary" agent-end
wait_for 10 agent_port "$primary" disconnected || fail "$step: the agent did not end"
during 8 quiet || fail "$step: something followed: $(pair_status "$standby" p1)"
as_before

goes_on 'the guest hangs: failover'
assert on "$primary" vmpair switchover p1 # to the one whose agent runs
whole p1
now_primary
policy on_hang=failover
goes_on "$step"
wait_for 30 heard "$primary" "$(asked "$primary")"
in_guest "$primary" hang
moved 'trigger hang: nothing was heard of the guest for .* ms; failover'
triggers_end
