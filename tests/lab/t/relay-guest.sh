#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The relay inside the guests (relay=guest, http1, journal): the daemon reaches it by a virtio port, its keys come by fw_cfg. Clients that
# remember lose nothing when the pair is moved, when VM, daemon or node of the primary are lost.
# vmpaird: yes
# full: yes
# timeout: 500
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=../pair.sh
. "$LAB_SRC/pair.sh"
# shellcheck source-path=SCRIPTDIR source=../history.sh
. "$LAB_SRC/history.sh"
lab_load

relay_of() { pair_status "$1" p1 | jq -c --arg n "${2:-$1}" '.members[] | select(.node == $n) | .relay'; } # relay_of ASKED [NODE]

store_start
pair_apps 1 bank,relay "$HISTORY_STORE"
# the small service of the guest has port 80 at all addresses
PAIR_PARAMS=(relay=guest services=http1:81:8080)
pair_create 1
whole 240
client c1 -p 81 -w 8 -r 4
entry=${LAB_ENTRY6[0]} client c6 -p 81 -a 50 -w 2 -r 2

step 'the relay is in the guest'
assert_eq guest "$(relay_of "$holder" | jq -r .place)" 'place of the relay'
not on "$holder" pgrep -f '^/usr/sbin/vmpair-relay' || fail "a relay runs on the host $holder"
assert_eq 600 "$(on "$holder" stat -c %a /run/vmpair/guest/p1.keys)" 'mode of the key file'
wait_for 10 eval "[ \"\$(relay_of $holder | jq .stats.requests)\" -gt 0 ]"

step switchover
fault_switchover

step 'the VM of the primary is killed'
fault_vm_kill

step 'the VM of the standby is killed'
fault_standby_kill

step 'a daemon is restarted as planned'
daemon stop "$holder" vmpaird
daemon start "$holder" vmpaird
whole

step 'the daemon of the primary is killed'
fault_daemon_kill

step 'the node of the primary is cut off, with clients that only wait'
waiters_start 81
uptime_ms
t0=$REPLY
fault_node_cut
waiters_reset 10000

clients_stop
