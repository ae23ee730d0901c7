#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What people and strangers can hand in wrongly: configuration, keys, parameters of a pair, datagrams, control clients. Each is refused
# with a sentence that says where and how to mend it, and none of it disturbs the pair that serves meanwhile.
# vmpaird: yes
# shellcheck disable=SC2016 # backquotes as the daemon prints them
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=../lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
# shellcheck source-path=SCRIPTDIR source=../pair.sh
. "$LAB_SRC/pair.sh"
lab_load

hurt=$LAB_BUILD/tests/lab/hurt
entry=${LAB_ENTRY[0]}
etc=$LAB_DIR/n3/etc/vmpair
pair_create 1

refuses() { # refuses TEXT COMMAND...: it fails, and says TEXT (a pattern)
	local out rc=0 want=$1
	shift
	out=$("$@" 2>&1) || rc=$?
	[ $rc -ne 0 ] || fail "accepted: $*"
	grep -q -- "$want" <<< "$out" || fail "wanted '$want', $* says: $out"
}

log 'vmpaird.conf: every error with its line'
conf() { printf '%b' "$1" > "$etc/t.conf"; }
tested() { on n3 vmpaird -t -c /etc/vmpair/t.conf; }
conf 'hb_ms = 20\n# fine\ncolour = blue\nhb_ms = 30\nlease_ms = abc\nbind_address = 10.0.0.300\nport 17\n'
refuses 't.conf:3: unknown option `colour`' tested
refuses 't.conf:4: hb_ms is already set on line 1 (keep one)' tested
refuses 't.conf:5: lease_ms: `abc` is not a whole number' tested
refuses 't.conf:6: bind_address: `10.0.0.300` is not a numeric' tested
refuses 't.conf:7:' tested
conf 'hb_ms = 50\nlease_ms = 100\n'
refuses 't.conf:2: lease_ms 100 .*less than three heartbeats.*lease_ms 196 or more' tested
refuses 'none.conf: No such file' on n3 vmpaird -t -c /etc/vmpair/none.conf
refuses 'none.conf: No such file' on n3 vmpaird -c /etc/vmpair/none.conf

log 'keys: permissions, content, none'
conf 'key_file = /etc/vmpair/t.keys\n'
refuses 't.keys: No such file.*vmpair keygen' tested
install -m 644 "$etc/keys" "$etc/t.keys"
refuses 't.keys: has mode 0644.*chmod 0600' tested
chmod 600 "$etc/t.keys"
assert tested > /dev/null
chown nobody "$etc/t.keys"
refuses 't.keys: .*root' tested
chown root "$etc/t.keys"
sed -i 's/^key 1 ..../key 1 zzzz/' "$etc/t.keys"
refuses 't.keys:1: key 1 is not 64 hex digits' tested
: > "$etc/t.keys"
refuses 't.keys: there is no key' tested
rm "$etc/t.conf" "$etc/t.keys"

wait_for 90 pair_whole p1 || fail 'p1 is not whole'
holder=$(pair_primary p1)
epoch=$(pair_epoch p1)
for other in n1 n2 n3; do # the node without a member
	[ "$other" = "$holder" ] || [ "$other" = "$(pair_standby p1)" ] || break
done
log "p1: primary $holder, standby $(pair_standby p1), no member on $other"

log 'parameters of a pair: address, file, entry NIC, an entry address that is taken on other nodes'
d=$LAB_DIR/$other/etc/vmpair
sed '/<interface/,/<\/interface>/d' "$d/p1.xml" > "$d/nonic.xml"
sed 's/<name>/<name/' "$d/p1.xml" > "$d/broken.xml"
agent() { # agent ACTION [NAME=VALUE...]
	local action=$1 a list=(pair=t domain=/etc/vmpair/p2.xml entry=10.77.0.150/24 entry_nic=br-entry)
	shift
	for a; do list+=("$a"); done
	on "$other" env OCF_ROOT=/usr/lib/ocf OCF_RESOURCE_INSTANCE=t OCF_RESKEY_CRM_meta_timeout=20000 "${list[@]/#/OCF_RESKEY_}" \
		/usr/lib/ocf/resource.d/vmpair/pair "$action"
}
for action in validate-all start; do
	refuses "entry: '10.77.0.300/24' is not ADDRESS/PREFIX" agent $action entry=10.77.0.300/24
	refuses 'entry.*10.77.0.0' agent $action entry=10.77.0.0/24
	refuses 'colour: unknown parameter' agent $action colour=red
	refuses 'none.xml: No such file' agent $action domain=/etc/vmpair/none.xml
	refuses "$entry is an entry address of pair p1" agent $action entry="10.77.0.150/24 $entry/24"
done
refuses "nonic.xml:[0-9]*: no <interface type='bridge'> has <source bridge='br-entry'/>" agent start domain=/etc/vmpair/nonic.xml
refuses 'broken.xml:' agent start domain=/etc/vmpair/broken.xml
refuses "p2.xml:[0-9]*: no .*bridge='br-none'" agent start entry_nic=br-none
rc=0
agent monitor || rc=$?
assert_eq 7 "$rc" 'monitor after failed starts'
assert agent stop

log 'the same through Pacemaker: the reason is shown, deleting leaves nothing'
on n1 pcs resource create t ocf:vmpair:pair pair=t domain=/etc/vmpair/p2.xml entry="$entry/24" entry_nic=br-entry \
	promotable promoted-max=1 clone-max=2 > "$LAB_DIR/pcs.log" 2>&1 || fail "pcs: $(cat "$LAB_DIR/pcs.log")"
wait_for 30 eval "on n1 crm_mon -1 --output-as=xml | find_line 'is an entry address of pair p1'"
on n1 pcs resource delete t-clone > "$LAB_DIR/pcs.log" 2>&1 || on n1 pcs resource delete t > "$LAB_DIR/pcs.log" 2>&1 ||
	fail "pcs: $(cat "$LAB_DIR/pcs.log")"
unknown_t() {
	local n
	for n in $(lab_all); do [ -z "$(pair_status "$n" t)" ] || return 1; done
}
wait_for 30 unknown_t || fail 'the pair that never began is still shown'
assert_eq 0 "$(on "$other" nft list table bridge vmpair | grep -c 'vpe[0-9a-f]' || true)" 'gated ports on a node without members'

log 'a template that is not the same on all nodes: refused there, said why, mended by the right file'
pid=$(vm_pid "$holder" p1) standby=$(pair_standby p1)
cp -a "$LAB_DIR/$other/etc/vmpair/p1.xml" "$LAB_DIR/p1.xml.good"
sed -i 's|<vcpu[^>]*>[0-9]*</vcpu>|<vcpu>2</vcpu>|' "$LAB_DIR/$other/etc/vmpair/p1.xml"
assert not cmp -s "$LAB_DIR/p1.xml.good" "$LAB_DIR/$other/etc/vmpair/p1.xml"
on "$holder" pcs node standby "$standby" > "$LAB_DIR/pcs.log" 2>&1 || fail "pcs: $(cat "$LAB_DIR/pcs.log")"
status_tells() { on "$holder" vmpair status p1 | find_line "$1"; }
wait_for 60 status_tells 'p1.xml differs from the one on .*: make the file the same on all nodes' || fail 'the other template is not refused'
assert_eq "$pid" "$(vm_pid "$holder" p1)" 'process of the primary'
cp -a "$LAB_DIR/p1.xml.good" "$LAB_DIR/$other/etc/vmpair/p1.xml"
on "$holder" pcs node unstandby "$standby" > "$LAB_DIR/pcs.log" 2>&1
on "$holder" pcs resource cleanup p1 > "$LAB_DIR/pcs.log" 2>&1
wait_for 120 pair_whole p1 || fail 'p1 is not whole with the right template'
assert_eq "$pid" "$(vm_pid "$holder" p1)" 'process of the primary'
assert_eq "$epoch" "$(pair_epoch p1)" epoch
other=$(lab_all | grep -vxe "$holder" -e "$(pair_standby p1)")

log 'datagrams of strangers: junk, another version, altered, an unknown key, old ones, in any order'
probe_start "$entry"
probe_mark datagrams
from=$other to=$holder # the holder hears them
in_switch "$hurt" record "${from}c" 5440 400 "$LAB_DIR/frames"
before=$(refused "$to" "$to" garbage)
in_switch "$hurt" send "${to}c" "$LAB_DIR/frames" forward junk 3 < /dev/null
wait_for 5 refused_more "$to" "$to" "$before" garbage || fail 'junk is not counted'
for c in version:version counter:wrong-key key:unknown-key; do
	before=$(refused "$to" "$from" "${c#*:}")
	in_switch "$hurt" send "${to}c" "$LAB_DIR/frames" forward "${c%:*}" 3 < /dev/null
	wait_for 5 refused_more "$to" "$from" "$before" "${c#*:}" || fail "${c%:*}: not counted: $(refused "$to" "$from" "${c#*:}")"
done
for order in forward reverse shuffle; do
	in_switch "$hurt" send "${to}c" "$LAB_DIR/frames" $order none 5 < /dev/null
done
n=$(grep -c 'datagrams from .*: wrong-key' "$LAB_DIR/$to/var/log/vmpaird.out")
assert_eq 1 "$n" 'lines about wrong keys in this minute'
assert_eq "$epoch" "$(pair_epoch p1)" epoch

log 'a node with another key: refused and counted by the others, said once, two voters carry on; mended by the right key'
before=$(refused "$to" "$from" wrong-key)
cp -a "$LAB_DIR/$from/etc/vmpair/keys" "$LAB_DIR/keys.good"
sed -i "s/^key 1 ......../key 1 00112233/" "$LAB_DIR/$from/etc/vmpair/keys"
daemon stop "$from" vmpaird
daemon start "$from" vmpaird
wait_for 20 refused_more "$to" "$from" "$((before + 20))" wrong-key || fail 'datagrams with another key are not counted'
heard() { on "$1" vmpair status --output=json | jq -e --arg n "$2" '.nodes[] | select(.name == $n) | .heard' > /dev/null; }
wait_for 5 not heard "$to" "$from" # one lease after its last word
assert_le "$(grep -c "node $from: wrong-key" "$LAB_DIR/$to/var/log/vmpaird.out")" 2 'lines about wrong keys'
cp -a "$LAB_DIR/keys.good" "$LAB_DIR/$from/etc/vmpair/keys"
daemon stop "$from" vmpaird
daemon start "$from" vmpaird
wait_for 20 heard "$to" "$from" || fail 'the node with the right key again is not heard'

log 'heartbeats of before its restart: another session, refused'
before=$(refused "$to" "$from" old-session)
in_switch "$hurt" send "${to}c" "$LAB_DIR/frames" forward none 3 < /dev/null
wait_for 5 refused_more "$to" "$from" "$before" old-session || fail 'datagrams of an earlier session are not counted as such'

log 'control clients that ask and never read are dropped; others are served meanwhile'
on "$holder" "$hurt" ctl /run/vmpair/vmpaird.sock 12 > "$LAB_DIR/ctl.out" < /dev/zero &
ctl=$!
wait_for 10 grep -q asked "$LAB_DIR/ctl.out"
assert on "$holder" timeout 3 vmpair status > /dev/null
wait_for 20 grep -q dropped "$LAB_DIR/ctl.out" || fail "not dropped: $(cat "$LAB_DIR/ctl.out")"
wait "$ctl"
assert on "$holder" timeout 3 vmpair status > /dev/null

probe_stop
assert_le "$(probe_value all 'max_gap_ms | floor')" 1000 'longest time without an answer, in ms'
assert_eq "$epoch" "$(pair_epoch p1)" 'epoch: nothing of all this is a reason for a failover'
wait_for 30 pair_whole p1 || fail 'p1 is not whole at the end'
