#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Accepted requests survive the primary, journal mode on the hosts: bank fronts in the guests, the accounts in a store that they share.
# Clients with short requests, slow bodies, late and long answers, and a thousand that come back at once.
# vmpaird: yes
# full: yes
# timeout: 420
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=../pair.sh
. "$LAB_SRC/pair.sh"
# shellcheck source-path=SCRIPTDIR source=../history.sh
. "$LAB_SRC/history.sh"
lab_load

store_start
pair_apps 1 bank "$HISTORY_STORE"
# shellcheck disable=SC2034 # for pair_create
PAIR_PARAMS=(entry_mode=host relay=host sync=journal services=http1:80:8080)
pair_create 1
whole
client short -p 80 -a 0 -w 4 -r 4
client body -p 80 -a 10 -w 2 -r 0 -B 40000 -P 20
client answer -p 80 -a 20 -w 2 -r 0 -D 30 -Z 60000
client unkeyed -p 80 -a 30 -w 2 -r 1 -x
client storm -p 80 -a 40 -w 1 -r 0 -i 1000

common_faults
step 'the primary is killed while a new standby catches up'
fault_catch_up
step 'two primaries are killed within a second'
fault_twice

log 'every acknowledged write is there exactly once'
clients_stop || fail 'a history is wrong'
total=$(in_client curl -s "http://$HISTORY_STORE/total")
log "the store says: $total"
