#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Accepted requests survive the primary, mirror mode on the hosts: bank and Redis in each guest keep their own state, which a new standby imports.
# The standby executes every request in the same order; the state of both is compared at the end.
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

pair_apps 1 bank,redis
# shellcheck disable=SC2034 # for pair_create
PAIR_PARAMS=(entry_mode=host relay=host sync=mirror services='http1:80:8080 resp:6379'
	export='/etc/vmpair/apps-state export' import='/etc/vmpair/apps-state import')
pair_create 1
whole
client bank -p 80 -a 0 -w 4 -r 4
client body -p 80 -a 10 -w 2 -r 0 -B 40000 -P 20
client answer -p 80 -a 20 -w 1 -r 0 -D 30 -Z 60000
client redis -p 6379 -k resp -w 4 -r 4

common_faults
step 'the new standby is killed while it takes over the state'
on "$standby" kill -KILL "$(vm_pid "$standby" p1)"
wait_for 15 degraded || fail 'not noticed'
wait_for 60 standby_runs || fail 'no new standby'
on "$standby" kill -KILL "$(vm_pid "$standby" p1)"
whole 120

log 'every acknowledged write is there exactly once'
clients_stop || fail 'a history is wrong'

log 'both members have the same accounts and lists'
whole
for n in "$holder" "$standby"; do
	on "$n" env VMPAIR_BACKEND="192.168.77.${n#n}" /etc/vmpair/bank-state export > "$LAB_DIR/bank.$n"
	for i in 0 1 2 3; do on "$n" redis-cli -h "192.168.77.${n#n}" LRANGE "h:redis:$i" 0 -1; done > "$LAB_DIR/redis.$n"
done
assert_eq "$(cksum < "$LAB_DIR/bank.$holder")" "$(cksum < "$LAB_DIR/bank.$standby")" 'accounts of the standby'
assert_eq "$(cksum < "$LAB_DIR/redis.$holder")" "$(cksum < "$LAB_DIR/redis.$standby")" 'lists of the standby'

log 'an answer that differs is counted and shown, with the request it was given to'
differs() { pair_status "$holder" p1 | jq -r '.problems[]' | find_line -E "^$standby: 1 answers differ"; }
not differs || fail 'a difference is shown where there is none'
on "$standby" curl -s -o /dev/null -X POST "http://192.168.77.${standby#n}:8080/credit/300/1/behind-the-relay"
assert_eq 'account 300 count 0 balance 0' "$(in_client curl -s "http://$entry/account/300")" 'answer of the primary'
wait_for 10 differs || fail "the difference is not shown: $(on "$holder" vmpair status p1)"
on "$standby" vmpair events p1 | find_line -E 'the answer to request 0x[0-9a-f]+/[0-9]+ differs' || fail 'the request is not named'
