# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What the tests of triggers share. Source lib.sh and pair.sh first.

# shellcheck source-path=SCRIPTDIR source=ops.sh
. "$LAB_SRC/ops.sh"

triggers_begin() { # triggers_begin PARAMETER=VALUE...: pair p1 with these, and a client
	# shellcheck disable=SC2034 # for pair_create
	PAIR_PARAMS=("$@")
	pair_create 1
	wait_for 180 pair_whole p1
	PROBE=p1 probe_start "${LAB_ENTRY[0]}"
	now_primary
}
triggers_end() { PROBE=p1 probe_stop; }
now_primary() {
	primary=$(pair_primary p1)
	standby=$(pair_standby p1)
	epoch=$(pair_epoch p1)
	pid=$(member_pid p1 "$primary")
}
step() { # step TEXT: the next fault; the pair is whole
	step=$1
	whole p1
	wait_for 30 guests_heard
	goes_on "$1"
}
goes_on() { # goes_on TEXT: a step that begins with what the one before has left
	step=$1
	now_primary
	step_ms=$(date +%s%3N)
	log "$step (primary $primary, standby $standby)"
	PROBE=p1 probe_mark "$step"
}
guests_heard() { # both members' vmpair-guest: only then is silence a sign
	local n
	for n in $(pair_primary p1) $(pair_standby p1); do
		on "$n" vmpair events -n 999 --output=json p1 | jq -e --arg n "$n" '
			[.events[] | select(.node == $n and (.what == "started" or .what == "guest" or .what == "reset"))] | last | .what == "guest"' > /dev/null || return 1
	done
}
policy() { # policy PARAMETER=VALUE...: changed live
	local n
	assert on n1 pcs resource update p1 "$@"
	for n in $primary $standby; do
		wait_for 20 takes "$n" "$1"
	done
	assert_eq "$pid" "$(member_pid p1 "$primary")" "process of the primary after a live change"
	whole p1
}
takes() { # takes NODE PARAMETER=VALUE: its daemon has that
	# shellcheck disable=SC2016 # jq's variables
	on "$1" jq -e --arg k "${2%%=*}" --arg v "${2#*=}" '.params[$k] == $v' /run/vmpair/pairs/p1.json > /dev/null
}
event_seen() { # event_seen NODE WHAT PATTERN: by that node since this step began
	on "$1" vmpair events -n 300 --output=json p1 | jq -e --arg n "$1" --arg w "$2" --arg p "$3" --argjson t "$step_ms" \
		'[.events[] | select(.node == $n and .what == $w and .ts >= $t and (.text | test($p)))] | length > 0' > /dev/null
}
moved_away() { local now; now=$(pair_primary p1); [ -n "$now" ] && [ "$now" != "$primary" ]; }
moved() { # moved CAUSE: the standby has taken over because of that, and the member that failed is replaced
	wait_for 30 moved_away || fail "$step: no failover"
	assert_eq "$standby" "$(pair_primary p1)" "$step: new primary"
	gap p1 "${GAP_MS:-$TRIGGER_MS}"
	on "$standby" vmpair why --output=json p1 | jq -e --arg c "$1" '.cause | test($c)' > /dev/null ||
		fail "$step: cause is $(on "$standby" vmpair why --output=json p1 | jq .cause)"
	whole p1
}
still() { # the same primary, the same process, the same epoch, and no second copy
	[ "$(pair_primary p1)" = "$primary" ] && [ "$(pair_epoch p1)" = "$epoch" ] && [ "$(members p1 | wc -w)" -le 2 ] &&
		[ -z "$(on "$standby" vmpair status --output=json p1 | jq '.pairs[0].members[] | select(.node == "'"$standby"'" and .role == "primary")')" ]
}
stays() { # stays SECONDS STATUS: nothing moves for so long, and status says why
	wait_for 20 status_says "$standby" p1 "$2"
	during "$1" still || fail "$step: something moved: $(pair_status "$standby" p1)"
	assert_eq "$pid" "$(member_pid p1 "$primary")" "$step: process of the primary"
}
as_before() { # it serves again, from the same process under the same epoch
	wait_for 60 probe_answers "${LAB_ENTRY[0]}"
	still || fail "$step: something moved"
	assert_eq "$pid" "$(member_pid p1 "$primary")" "$step: process of the primary"
	whole p1
}
not_moved_by() { # not_moved_by TRIGGER...: the last change had another cause
	on "$standby" vmpair why --output=json p1 | jq -e --arg c "$1" '.cause | test($c) | not' > /dev/null
}
another_member() { [ "$(member_pid "$1" "$2")" != "$3" ] && two_members "$1"; } # another_member PAIR NODE PID
# shellcheck disable=SC2034 # what a client may notice: the detection itself, then a failover
TRIGGER_MS=9000
