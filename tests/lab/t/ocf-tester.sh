#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# ocf-tester of Debian's resource-agents calls every action of ocf:vmpair:pair, on a real VM and without Pacemaker's help.
# vmpaird: yes
# timeout: 200
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=../pair.sh
. "$LAB_SRC/pair.sh"
lab_load

for tool in ocf-tester:resource-agents xmllint:libxml2-utils; do
	on n1 which "${tool%:*}" > /dev/null || {
		echo "skipped: ${tool%:*} is missing (package ${tool#*:})"
		exit 77
	}
done
agent=/usr/lib/ocf/resource.d/vmpair/pair
tester() { # tester PARAMETER=VALUE...
	local p args=()
	for p; do args+=(-o "$p"); done
	on n1 ocf-tester -n p1 "${args[@]}" "$agent" > "$LAB_DIR/ocf-tester.log" 2>&1
}
params=(pair=p1 domain=/etc/vmpair/p1.xml "entry=${LAB_ENTRY[0]}/24" entry_nic=br-entry "internal_net=$(pair_net 1)/24@br-int" ready=http:80/
	stop_timeout=1s)

log 'ocf-tester finds a wrong parameter'
tester "${params[@]}" entry=nowhere && fail 'ocf-tester passes with an entry address that is none'
grep -q 'Validation failed' "$LAB_DIR/ocf-tester.log" || fail "$(cat "$LAB_DIR/ocf-tester.log")"

log 'ocf-tester has nothing to complain of'
tester "${params[@]}" || fail "$(cat "$LAB_DIR/ocf-tester.log")"
grep -q 'passed all tests' "$LAB_DIR/ocf-tester.log" || fail "$(cat "$LAB_DIR/ocf-tester.log")"
! grep '^\* rc=' "$LAB_DIR/ocf-tester.log" || fail 'a complaint that does not count as an error'
events_more n1 p1 bound 1 || fail 'it was never primary twice, so not much was tested'
assert not on n1 pgrep -f 'guest=p1,'
