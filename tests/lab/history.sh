# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What the tests of accepted requests share: a pair p1 whose relay stands before the bank or Redis, clients that remember what they were told
# (apps/history.c), and faults. Source lib.sh and pair.sh first.

HISTORY_STORE=192.168.77.250:8090 # a database that the members share
HISTORY_CLIENTS=()
entry=${LAB_ENTRY[0]}

store_start() { # the bank that keeps the accounts when the members keep none; ends with the test
	nsenter --net="$(lab_ns cl)" -- "$LAB_BUILD/lab/guest/guest-bank" -p "${HISTORY_STORE##*:}" < /dev/null > "$LAB_DIR/store.out" 2>&1 &
	store_pid=$!
	trap 'kill "$store_pid" 2> /dev/null || true' EXIT
	wait_for 10 in_client curl -s -o /dev/null "http://$HISTORY_STORE/"
}
client() { # client NAME OPTIONS...: one more checker; each needs accounts (-a) or keys (-R) of its own
	local name=$1
	shift
	PROBE=$name history_start "$entry" -R "$name" "$@"
	HISTORY_CLIENTS+=("$name")
}
step() { # step TEXT
	local c
	step=$1
	log "$step"
	for c in "${HISTORY_CLIENTS[@]}"; do PROBE=$c probe_mark "$step"; done
}
acked() { # acked CLIENT: writes it had acknowledged until its last mark
	jq -r '.acked' "$LAB_DIR/$1.json"
}
clients_stop() { # every history is checked; any violation fails the test
	local c rc=0
	for c in "${HISTORY_CLIENTS[@]}"; do
		PROBE=$c probe_stop || { log "history of $c is wrong"; rc=1; }
		log "$c: $(jq -c '{acked, reads, repeats, unknown, lost_connections, status, violations}' "$LAB_DIR/$c.json")"
		log "$c: longest without an acknowledged write, ms: $(jq -r '[.marks[] | "\(.name): \(.worst_write_gap_ms | floor)"] | join("; ")' "$LAB_DIR/$c.json")"
	done
	HISTORY_CLIENTS=()
	return $rc
}
# Clients that only wait for a late answer: what they sent was acknowledged, so they learn that the primary has gone only when somebody tells
# them. One over IPv4, one over IPv6.
waiters_start() { # waiters_start PORT
	local a=0 url
	WAITERS=()
	for url in "http://$entry:$1" "http://[${LAB_ENTRY6[0]}]:$1"; do
		a=$((a + 1))
		(
			trap - EXIT
			# in its own account: a failure is what is waited for
			in_client curl -g -sS --max-time 60 -o /dev/null "$url/account/9$a?delay=60000" 2> "$LAB_DIR/waiter.$a" && rc=0 || rc=$?
			uptime_ms
			echo "$rc $REPLY" > "$LAB_DIR/waiter.$a.end"
		) &
		WAITERS+=($!)
	done
	wait_for 10 waiters_wait "$1"
}
waiters_wait() { [ "$(in_client ss -tnpH state established "dport = :$1" | grep -c '"curl"')" -ge 2 ]; }
# shellcheck disable=SC2154 # t0 is the caller's
waiters_reset() { # waiters_reset MS: both were reset, at most MS after t0
	local a rc at
	wait "${WAITERS[@]}"
	for a in 1 2; do
		read -r rc at < "$LAB_DIR/waiter.$a.end"
		log "waiting client over IPv$((a == 1 ? 4 : 6)): curl ended with $rc after $((at - t0)) ms: $(< "$LAB_DIR/waiter.$a")"
		assert_eq 56 "$rc" 'end of a waiting client (56: reset)'
		assert_le "$((at - t0))" "$1" 'ms until a waiting client was reset'
	done
}
roles() {
	holder=$(pair_primary p1)
	standby=$(pair_standby p1)
}
whole() { # whole [SECONDS]
	wait_for "${1:-90}" pair_whole p1 || fail "${step-}: p1 does not become whole"
	roles
}
moved_from() { # moved_from NODE: another one is primary
	local now
	now=$(pair_primary p1)
	[ -n "$now" ] && [ "$now" != "$1" ]
}

# --- faults: each is over, and the pair is whole, when it returns ---------------------------------------------------------------------
fault_vm_kill() {
	on "$holder" kill -KILL "$(vm_pid "$holder" p1)"
	wait_for 15 moved_from "$holder" || fail "$step: no failover"
	whole
}
fault_standby_kill() {
	on "$standby" kill -KILL "$(vm_pid "$standby" p1)"
	wait_for 15 degraded || fail "$step: not noticed"
	whole
}
degraded() { [ "$(pair_status "$holder" p1 | jq -r .mode)" != sync ]; }
relay_pid() { on "$1" pgrep -f '^/usr/sbin/vmpair-relay .*p1' | head -n 1; } # relay_pid NODE
fault_relay_kill() { # of the primary: its content is lost, as with its VM
	local pid
	pid=$(relay_pid "$holder")
	[ -n "$pid" ] || fail "$step: no relay runs on $holder"
	on "$holder" kill -KILL "$pid"
	wait_for 15 moved_from "$holder" || fail "$step: no failover"
	whole
}
fault_standby_relay_kill() {
	on "$standby" kill -KILL "$(relay_pid "$standby")"
	wait_for 15 degraded || fail "$step: not noticed"
	whole
}
# shellcheck disable=SC2034
fault_daemon_kill() {
	local old=$holder
	daemon kill "$old" vmpaird
	(
		ASK=$standby
		wait_for 15 moved_from "$old"
	) || fail "$step: no failover"
	daemon start "$old" vmpaird
	whole
}
# shellcheck disable=SC2034
fault_daemon_freeze() {
	local old=$holder
	daemon freeze "$old" vmpaird
	(
		ASK=$standby
		wait_for 15 moved_from "$old"
	) || fail "$step: no failover"
	daemon thaw "$old" vmpaird
	whole
}
fault_vm_freeze() { # the guest stands still: nobody fails over for that here, and nothing may be lost
	local pid
	pid=$(vm_pid "$holder" p1)
	on "$holder" kill -STOP "$pid"
	wait_for 10 not probe_backend || true
	on "$holder" kill -CONT "$pid"
	whole
}
probe_backend() { in_client curl -s --max-time 0.5 -o /dev/null "http://$entry:80/"; }
# shellcheck disable=SC2034 # ASK is read by a_node
fault_node_cut() {
	local old=$holder
	cut_off "$old"
	(
		ASK=$standby
		wait_for 30 moved_from "$old"
	) || fail "$step: no failover"
	heal
	whole 120
}
fault_switchover() {
	local old=$holder
	on "$(a_node)" vmpair switchover p1 > "$LAB_DIR/switchover.log" 2>&1 || fail "switchover: $(cat "$LAB_DIR/switchover.log")"
	wait_for 10 moved_from "$old"
	whole
}
fault_twice() { # the new primary dies within a second, before there is a standby
	local old=$holder second=$standby pid
	pid=$(vm_pid "$second" p1)
	on "$old" kill -KILL "$(vm_pid "$old" p1)"
	wait_for 5 eval "[ \"\$(ASK=$second pair_primary p1)\" = $second ]"
	on "$second" kill -KILL "$pid"
	whole 120
}
fault_catch_up() { # the primary dies while a new standby catches up
	local pid
	on "$standby" kill -KILL "$(vm_pid "$standby" p1)"
	wait_for 15 degraded || fail "$step: not noticed"
	wait_for 60 standby_runs || fail "$step: no new standby"
	pid=$(vm_pid "$holder" p1)
	on "$holder" kill -KILL "$pid"
	whole 150
}
standby_runs() { [ "$(pair_status "$holder" p1 | jq '[.members[] | select(.running)] | length')" -ge 2 ]; }

common_faults() { # what accepted requests survive in both kinds
	step 'the VM of the primary is killed'
	fault_vm_kill
	step 'the VM of the standby is killed'
	fault_standby_kill
	step 'the relay of the primary is killed'
	fault_relay_kill
	step 'the relay of the standby is killed'
	fault_standby_relay_kill
	step 'switchover'
	fault_switchover
	step 'the daemon of the primary is killed'
	fault_daemon_kill
	step 'the daemon of the primary stands still'
	fault_daemon_freeze
	step 'the node of the primary is cut off, and healed'
	fault_node_cut
}
