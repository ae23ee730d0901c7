#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The history checker finds what it is there for: relays that let answers out before the standby has what they say (test build with a fault
# that a file switches on), the way between them cut, the primary lost: acknowledged writes are gone, and the client says so. Without the
# fault the same loses nothing.
# vmpaird: yes
# full: yes
# timeout: 300
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=../pair.sh
. "$LAB_SRC/pair.sh"
# shellcheck source-path=SCRIPTDIR source=../history.sh
. "$LAB_SRC/history.sh"
lab_load

ways_cut() { # nothing of what is recorded from here on reaches the standby; relays only, the daemons notice nothing
	on "$standby" nft 'add table inet cut; add chain inet cut in { type filter hook input priority 0; };
		add rule inet cut in tcp dport 7700-7799 drop; add rule inet cut in tcp sport 7700-7799 drop'
}
primary_lost_behind_the_cut() {
	local other=$standby
	ways_cut
	on "$holder" kill -KILL "$(relay_pid "$holder")"
	wait_for 15 moved_from "$holder" || fail "$step: no failover"
	on "$other" nft delete table inet cut
	whole 120
}

for n in $(lab_all); do on "$n" mount --bind "$LAB_BUILD/tests/relay/vmpair-relay-faulty" /usr/sbin/vmpair-relay; done
pair_apps 1 bank
# shellcheck disable=SC2034 # for pair_create
PAIR_PARAMS=(entry_mode=host relay=host sync=mirror services=http1:80:8080 export='/etc/vmpair/bank-state export' import='/etc/vmpair/bank-state import')
pair_create 1
whole

client good -p 80 -a 0 -w 8 -r 2
step 'the relay as it is'
primary_lost_behind_the_cut
clients_stop || fail 'acknowledged writes were lost without a fault'

step 'output commit is off'
for n in $(lab_all); do on "$n" touch /run/vmpair/fault.commit; done
client bad -p 80 -a 100 -w 8 -r 2
primary_lost_behind_the_cut
if clients_stop; then fail 'acknowledged writes were lost, or should have been, and the checker has not seen it'; fi
[ "$(jq .violations "$LAB_DIR/bad.json")" -gt 0 ] || fail 'the client failed without a violation'
