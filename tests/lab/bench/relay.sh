#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# vmpair-relay beside HAProxy and no proxy at all: nginx behind, wrk in front, in four network namespaces on one bridge.
# Pinning: core 1 has the proxy under test alone (HAProxy with one thread, or the primary's relay); core 0 has wrk, nginx, and
# the standby's relay, so what replication costs there takes from the same two cores; at the takeover the clients have core 1.
# All variants take turns within a run.
# metrics: relay.rps.direct relay.rps.haproxy_http relay.rps.haproxy_tcp relay.rps.vmpair_sync relay.rps.vmpair_degraded relay.latency_1c_us.direct relay.latency_1c_us.haproxy_http relay.latency_1c_us.haproxy_tcp relay.latency_1c_us.vmpair_sync relay.latency_1c_us.vmpair_degraded relay.takeover_10k_ms relay.takeover_10k_all_ms relay.kib_per_connection codec.encode_ns codec.decode_ns frame.http1_request_ns frame.http1_answer_ns
# lab: no
# limits: relay.takeover_10k_ms:median:50 relay.kib_per_connection:median:8 codec.encode_ns:median:200 codec.decode_ns:median:200
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

: "${BENCH_SECONDS:=3}"
NAMES=(direct haproxy_http haproxy_tcp vmpair_degraded vmpair_sync)
ENTRY=10.99.9.10
CLIENTS=10000 FLYING=1000

for p in haproxy nginx wrk taskset; do
	command -v "$p" > /dev/null || fail "$p is missing: apt-get install haproxy nginx-light wrk util-linux"
done
[ "$(nproc)" -ge 2 ] || fail 'needs two cores'

dir=$(mktemp -d)
ns() { echo "vr$LAB_ID-$1"; }
in_ns() { ip netns exec "$(ns "$1")" "${@:2}"; }
pids=()
cleanup() {
	trap '' EXIT INT TERM
	# the relays end with their driver
	[ ${#pids[@]} -eq 0 ] || kill -KILL "${pids[@]}" 2> /dev/null || true
	wait 2> /dev/null || true
	for n in c p s b; do ip netns del "$(ns $n)" 2> /dev/null || true; done
	rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

# --- the four hosts: clients, primary, standby, application --------------------------------------------------------------

network() {
	local n i=1
	for n in c p s b; do
		ip netns del "$(ns $n)" 2> /dev/null || true
		ip netns add "$(ns $n)"
		in_ns $n ip link set lo up
		in_ns $n sysctl -qw net.core.somaxconn=32768 net.ipv4.tcp_max_syn_backlog=32768 \
			net.ipv4.ip_local_port_range='1024 65535' net.ipv4.tcp_tw_reuse=1
	done
	in_ns b ip link add br0 type bridge
	in_ns b ip link set br0 up
	in_ns b ip addr add 10.99.0.4/24 dev br0
	for n in c p s; do
		in_ns b ip link add "to-$n" type veth peer name eth0 netns "$(ns $n)"
		in_ns b ip link set "to-$n" master br0 up
		in_ns $n ip addr add "10.99.0.$i/24" dev eth0
		in_ns $n ip link set eth0 up
		i=$((i + 1))
	done
	# the entry address is on both; the clients' route tells who is primary
	in_ns p ip addr add $ENTRY/32 dev lo
	in_ns s ip addr add $ENTRY/32 dev lo
	in_ns c ip route add $ENTRY via 10.99.0.2
}

pinned() { # pinned NS CORE COMMAND...: in the background
	in_ns "$1" taskset -c "$2" "${@:3}" > "$dir/$(basename "$3").log" 2>&1 &
	pids+=($!)
}
programs() {
	cat > "$dir/nginx.conf" <<- E
		daemon off; master_process off; pid $dir/nginx.pid; error_log stderr warn;
		worker_rlimit_nofile 20000;
		events { worker_connections 16384; }
		http {
			access_log off; keepalive_requests 1000000000; keepalive_timeout 600s; default_type text/plain;
			client_body_temp_path $dir; proxy_temp_path $dir; fastcgi_temp_path $dir; uwsgi_temp_path $dir; scgi_temp_path $dir;
			server { listen 10.99.0.4:8080 backlog=16384; location / { return 200 "$(printf '%0128d' 0)"; } }
		}
	E
	cat > "$dir/haproxy.cfg" <<- E
		global
			nbthread 1
			maxconn 4000
		defaults
			timeout connect 5s
			timeout client 600s
			timeout server 600s
		frontend h
			mode http
			bind $ENTRY:8001
			default_backend hb
		backend hb
			mode http
			http-reuse always
			server s 10.99.0.4:8080
		frontend t
			mode tcp
			bind $ENTRY:8002
			default_backend tb
		backend tb
			mode tcp
			server s 10.99.0.4:8080
	E
	cat > "$dir/report.lua" <<- 'E'
		done = function(summary, latency)
			local e = summary.errors
			io.write(string.format("result %.1f %d %d\n", summary.requests * 1e6 / summary.duration, latency:percentile(50),
				e.connect + e.read + e.write + e.status + e.timeout))
		end
	E
	pinned b 0 nginx -c "$dir/nginx.conf" -e stderr
	pinned p 1 haproxy -db -f "$dir/haproxy.cfg"
	wait_for 10 in_ns c curl -sf -o /dev/null http://10.99.0.4:8080/
	wait_for 10 in_ns c curl -sf -o /dev/null http://$ENTRY:8001/
	wait_for 10 in_ns c curl -sf -o /dev/null http://$ENTRY:8002/

	(umask 077; echo "key 1 $(od -An -v -tx1 -N 32 /dev/urandom | tr -d ' \n') send" > "$dir/keys")
	mkfifo "$dir/drive.in" "$dir/drive.out" "$dir/crowd.in" "$dir/crowd.out"
	drive_start
}
drive_start() {
	"$LAB_BUILD/tests/lab/relaydrive" "$dir/keys" $ENTRY 8000 10.99.0.4 8080 10.99.0.2 10.99.0.3 \
		"ip netns exec $(ns p) taskset -c 1 $LAB_BUILD/vmpair-relay" "ip netns exec $(ns s) taskset -c 0 $LAB_BUILD/vmpair-relay" \
		< "$dir/drive.in" > "$dir/drive.out" 2> "$dir/drive.log" &
	pids+=($!)
	exec 5> "$dir/drive.in" 6< "$dir/drive.out"
}
said() { # said FD: the next line of a helper in $REPLY
	read -r -t 90 -u "$1" REPLY || {
		tail -n 5 "$dir"/*.log >&2
		fail "a helper does not answer"
	}
}
drive() {
	echo "$1" >&5
	said 6
}

# --- requests a second, latency ------------------------------------------------------------------------------------------

port_of() {
	case "$1" in
	direct) echo 10.99.0.4:8080 ;;
	haproxy_http) echo $ENTRY:8001 ;;
	haproxy_tcp) echo $ENTRY:8002 ;;
	*) echo $ENTRY:8000 ;;
	esac
}
load() { # load NAME CONNECTIONS: REPLY="RPS P50_US"
	local out errors
	out=$(in_ns c taskset -c 0 wrk -t 1 -c "$2" -d "$BENCH_SECONDS" -s "$dir/report.lua" "http://$(port_of "$1")/")
	read -r _ rps p50 errors <<< "$(grep '^result ' <<< "$out")"
	[ "${errors:-none}" = 0 ] || fail "wrk on $1: $errors errors: $out"
}
rates() {
	local n
	for n in "${NAMES[@]}"; do
		wanted "relay.rps.$n" || wanted "relay.latency_1c_us.$n" || continue
		case "$n" in
		vmpair_sync) drive sync ;;
		vmpair_degraded) drive alone ;;
		esac
		if wanted "relay.rps.$n"; then
			load "$n" 64
			sample "relay.rps.$n" requests/s "$rps"
		fi
		if wanted "relay.latency_1c_us.$n"; then
			load "$n" 1
			sample "relay.latency_1c_us.$n" us "$p50"
		fi
	done
}

# --- memory, takeover --------------------------------------------------------------------------------------------------------

rss_kib() { awk '/^VmRSS/ {print $2}' "/proc/$1/status"; }
crowd_end() {
	exec 7>&- 8<&-
	wait "$crowd" || fail "crowd: status $?"
}
takeover() { # all connect to relay 1 in sync, some are in flight, relay 1 dies, the address moves, all come again
	local primary before after bound first all late failed nginx
	in_ns c ip route replace $ENTRY via 10.99.0.2
	nginx=$(< "$dir/nginx.pid")
	drive sync
	read -r _ primary _ <<< "$REPLY"
	before=$(rss_kib "$primary")
	# on core 1, which the death of relay 1 sets free: the new primary has core 0 with nginx
	in_ns c taskset -c 1 "$LAB_BUILD/tests/lab/crowd" $ENTRY 8000 $CLIENTS $FLYING < "$dir/crowd.in" > "$dir/crowd.out" 2> "$dir/crowd.log" &
	crowd=$!
	pids+=("$crowd")
	exec 7> "$dir/crowd.in" 8< "$dir/crowd.out"
	said 8 # idle
	after=$(rss_kib "$primary")
	! wanted relay.kib_per_connection ||
		sample relay.kib_per_connection KiB "$(awk -v a="$after" -v b="$before" -v n=$CLIENTS 'BEGIN {printf "%.2f", (a - b) / n}')"
	if wanted relay.takeover_10k_ms || wanted relay.takeover_10k_all_ms; then
		kill -STOP "$nginx"
		echo fly >&7
		said 8
		drive "hold $FLYING"
		in_ns c ip route replace $ENTRY via 10.99.0.3
		kill -CONT "$nginx"
		echo takeover >&5
		echo reconnect >&7
		said 6
		read -r _ bound <<< "$REPLY"
		said 8
		read -r _ first _ all late failed <<< "$REPLY"
		[ "$failed" = 0 ] || fail "$failed requests failed after the takeover"
		log "takeover: $late of $CLIENTS clients waited more than 1 s"
		sample relay.takeover_10k_ms ms "$(awk -v t=$((first - bound)) 'BEGIN {printf "%.2f", t / 1e6}')"
		sample relay.takeover_10k_all_ms ms "$(awk -v t=$((all - bound)) 'BEGIN {printf "%.2f", t / 1e6}')"
	fi
	crowd_end
	drive end
	in_ns c ip route replace $ENTRY via 10.99.0.2
}

programs_ns() { # programs_ns PROGRAM METRIC...: of those it prints; "bench relay" means these as well
	local m v want=()
	for m in "${@:2}"; do
		if wanted "$m" || [[ " ${BENCH_NAMES-} " = *' relay '* ]]; then want+=("$m"); fi
	done
	[ ${#want[@]} -gt 0 ] || return 0
	taskset -c 1 "$LAB_BUILD/tests/bench/$1" > "$dir/ns.log"
	while read -r m v; do
		[[ " ${want[*]} " != *" $m "* ]] || sample "$m" ns "$v"
	done < "$dir/ns.log"
}

network
programs
for ((run = 1; run <= RUNS; run++)); do
	rates
	if wanted relay.takeover_10k_ms || wanted relay.takeover_10k_all_ms || wanted relay.kib_per_connection; then takeover; fi
	programs_ns codec_bench codec.encode_ns codec.decode_ns
	programs_ns frame_bench frame.http1_request_ns frame.http1_answer_ns
done
