#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The examples do what they say: two counters through loss of the standby and of the primary, twice; and a program that follows the role.
set -u
dir=$(mktemp -d)
pids=()
# shellcheck disable=SC2317 # called by the trap
cleanup() {
	for p in "${pids[@]}"; do kill -9 "$p" 2> /dev/null; done
	wait 2> /dev/null
	rm -rf "$dir"
}
trap cleanup EXIT
fail() {
	echo "not ok - $*"
	for f in "$dir"/out.*; do sed "s|^|# ${f##*/}: |" "$f"; done
	exit 1
}
# shellcheck disable=SC1083,SC2086,SC2093 # {in[...]} is a descriptor that the shell chooses
base=$((20000 + RANDOM % 20000 / 4 * 4))

start() { # start NODE: a member of the counter; commands go to descriptor in[NODE]
	mkfifo "$dir/in.$1"
	: > "$dir/out.$1"
	./heartbeat/examples/counter "$1" $((base + $1)) "$base" < "$dir/in.$1" > "$dir/out.$1" 2>&1 &
	pid[$1]=$!
	pids+=("$!")
	exec {in[$1]}> "$dir/in.$1"
	rm "$dir/in.$1"
}
end() { # end NODE: as by a power failure
	kill -9 "${pid[$1]}"
	wait "${pid[$1]}" 2> /dev/null
	exec {in[$1]}>&-
}
tell() { echo "${*:2}" >&"${in[$1]}"; }
says() { # says NODE PATTERN: waits until it has printed such a line, gives it in REPLY
	local i
	for ((i = 0; i < 200; i++)); do
		REPLY=$(grep -m 1 -E "$2" "$dir/out.$1") && return 0
		kill -0 "${pid[$1]}" 2> /dev/null || fail "counter $1 has ended"
		read -rt 0.05 <> <(:) || :
	done
	fail "counter $1 does not say: $2"
}
ask() { # ask NODE LINE ANSWER: from a new connection
	local i c got='' until=$((SECONDS + 20))
	for ((i = 0; i < 100 && SECONDS < until; i++)); do
		if exec {c}<> "/dev/tcp/127.0.0.1/$((base + $1))"; then
			echo "$2" >&"$c"
			IFS= read -rt 5 got <&"$c"
			exec {c}>&-
			[ -z "$got" ] || break
		fi 2> /dev/null
		read -rt 0.05 <> <(:) || :
	done
	[ "$got" = "$3" ] || fail "'$2' was answered by '$got', not '$3'"
}
into_sync() { # into_sync PRIMARY STANDBY OP
	says "$1" "^caught on $2 0x[0-9a-f]+ 0$"
	tell "$1" "mode wait $3"
	says "$1" "^caught on $2 0x[0-9a-f]+ $3$"
	tell "$1" "mode sync $2 $(cut -d ' ' -f 4 <<< "$REPLY")"
}
take_over() { # take_over NODE EPOCH
	tell "$1" "fence $2"
	says "$1" "^ready $2$"
	tell "$1" "mode alone"
	tell "$1" "primary $2"
}

declare -A in pid
start 1
start 2
tell 1 'mode alone'
tell 1 'primary 257'
ask 1 'a 5' 'a 5'
tell 2 'standby 257'
into_sync 1 2 1
ask 1 'b 7' 'b 12'
end 1
take_over 2 514
ask 2 'b 7' 'b 12'
ask 2 'c 1' 'c 13'
start 1
tell 1 'standby 514'
into_sync 2 1 2
ask 2 'd 2' 'd 15'
end 2
take_over 1 769
ask 1 'd 2' 'd 15'
ask 1 'a 5' 'a 5'
ask 1 'e 1' 'e 16'
echo 'ok - counter: nothing lost, nothing counted twice'

export VMPAIR_ROLE_DIR=$dir
out=$(./heartbeat/examples/role --once web)
[ "$?:$out" = '1:not primary epoch 0' ] || fail "role says '$out' without a page"
echo 'no page' > "$dir/web"
./heartbeat/examples/role --once web 2> /dev/null
[ $? = 2 ] || fail 'role takes any file for a page'
echo 'ok - role'
