# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What the tests of operator actions share: two pairs crossed over the same nodes, a client at each. Source lib.sh and pair.sh first.

# shellcheck disable=SC2034 # for tests
PLANNED_MS=1000 # what a client may notice of planned work; far above the real figure, since machines that run tests are busy
# shellcheck disable=SC2034
LOST_MS=3000    # ... of the loss of a VM

pairs_crossed() { # p1: primary n1, standby n2; p2: the other way round; n3 idle. Load on both: p1 over IPv4, p2 over IPv6
	assert on n1 pcs node standby n3
	pair_create 1
	pair_create 2 n2
	whole p1
	whole p2
	pair_at p1 n1
	pair_at p2 n2
	assert on n1 pcs node unstandby n3
	PROBE=p1 probe_start "${LAB_ENTRY[0]}"
	PROBE=p2 probe_start "${LAB_ENTRY6[1]}"
}
pairs_end() {
	PROBE=p1 probe_stop
	PROBE=p2 probe_stop
}
whole() { # whole PAIR [SECONDS]
	wait_for "${2:-180}" pair_whole "$1" || fail "${step-}: $1 is not whole"
	wait_for 60 two_members "$1" || fail "$1 keeps more than two members"
	wait_for 60 pair_whole "$1" || fail "$1 is not whole with two members"
}
pair_at() { # pair_at PAIR NODE: makes NODE the primary's
	[ "$(pair_primary "$1")" = "$2" ] && return
	assert on "$2" vmpair switchover "$1"
	whole "$1"
	assert_eq "$2" "$(pair_primary "$1")" "primary of $1"
}
step() { # step TEXT: the next action; the clients count anew
	step=$1
	log "$step"
	PROBE=p1 probe_mark "$step"
	PROBE=p2 probe_mark "$step"
}
gap() { # gap PAIR MS: its client is answered, and noticed no more than that since the step began
	local worst address=${LAB_ENTRY[0]}
	[ "$1" = p1 ] || address=[${LAB_ENTRY6[1]}]
	wait_for 10 probe_answers "$address" || fail "$step: $1 does not answer"
	worst=$(PROBE=$1 probe_worst)
	log "  client of $1 noticed $worst ms"
	assert_le "$worst" "$2" "$step: gap of $1, ms"
}
members() { # members PAIR: "NODE:PID ..." of the VMs that run, as the nodes' process tables have it
	local n pid list=()
	for n in $(lab_all); do
		pid=$(on "$n" pgrep -f "^/usr/bin/qemu-system-x86_64 -name guest=$1," 2> /dev/null) && list+=("$n:$pid")
	done
	echo "${list[*]-}"
}
two_members() {
	local list
	list=$(members "$1")
	[ "$(wc -w <<< "$list")" = 2 ] || { echo "members of $1: $list"; return 1; }
}
member_pid() { # member_pid PAIR NODE
	local m
	for m in $(members "$1"); do [ "${m%:*}" != "$2" ] || echo "${m#*:}"; done
}
no_member() { [ -z "$(member_pid "$1" "$2")" ]; } # no_member PAIR NODE
same_primary_vm() { # same_primary_vm PAIR NODE PID: that VM is primary still and was never stopped
	assert_eq "$2" "$(pair_primary "$1")" "$step: primary of $1"
	assert_eq "$3" "$(member_pid "$1" "$2")" "$step: process of $1's primary"
}
pair_holder_at() { # pair_holder_at NODE PAIR HOLDER: as that node tells it
	[ "$(pair_status "$1" "$2" | jq -r '.holder // empty')" = "$3" ]
}
status_says() { # status_says NODE PAIR PATTERN: in the text for people
	local out
	out=$(on "$1" timeout 5 vmpair status "$2" 2>&1) || true
	grep -q -- "$3" <<< "$out" || { echo "$out"; return 1; }
}
other_node() { # other_node NODE...: the first that is not named
	local n
	for n in $(lab_all); do
		[[ " $* " == *" $n "* ]] || { echo "$n"; return; }
	done
}
