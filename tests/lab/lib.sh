# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The lab: a cluster of nodes made of namespaces, and what tests do to it. Source it; nothing happens until a function
# is called. Needs root. Variables (all have defaults, `lab_up` keeps them in $LAB_DIR/env for later callers):
#   LAB_ID      tells labs on one machine apart; default follows from the checkout
#   LAB_NODES   number of nodes (3), named n1, n2, ...
#   LAB_BUILD   configured build directory: lab tools, programs under test, cached guest
#   LAB_LEASE_MS lease_ms of all nodes (150, which demo and bench use)
#   LAB_WITNESS yes: the node after the last (LAB_NODES + 1) is a witness: vmpaird --witness, and nothing else of a cluster
#   LAB_CLOCKS  yes: daemons run under a wall clock that their node's /etc/vmpair/clock.lab puts off (wallclock.c)
#   LAB_LINKS   2: a second network of the cluster, plane d, which is corosync's link 1
#   LAB_VMPAIRD yes|no: start vmpaird between libvirtd and pacemaker (default: when it was built)
#
# Namespaces: vl$LAB_ID-sw (the switches), vl$LAB_ID-cl (the client), vl$LAB_ID-n1 ... Planes, each a switch of its own:
#   u  entry network and guests' clients   br-entry of a node   10.77.0.ID/24  fd77::ID/64   client: 10.77.0.250
#   i  members among themselves            br-int of a node     192.168.77.(100+ID)/24, guests have 192.168.77.ID; 192.168.77.250
#      is a host of its own for what members share
#   c  corosync and vmpaird                clu0 of a node       10.78.0.ID/24  fd78::ID/64
# State lives in $LAB_DIR, a tmpfs: a lab that was left behind is found there and torn down by the next lab_up, and with it whatever
# still works on it: LAB_OWNER (a process, and when it started) is in the environment of all that a run starts outside the nodes, and in
# $LAB_DIR/owner. A script's last trap calls lab_end, which leaves alone a lab that belongs to somebody else by now.

LAB_SRC=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
LAB_TOP=$(cd "$LAB_SRC/../.." && pwd)
: "${LAB_ID:=$(printf '%s' "$LAB_TOP" | cksum | awk '{printf "%04x", $1 % 65536}')}"
: "${LAB_BUILD:=$LAB_TOP/build}"
LAB_DIR=/run/vmpair-lab/$LAB_ID
lab_started() { # lab_started PROCESS: when, in ticks since boot, into $REPLY; fails when it is no more
	local stat
	{ stat=$(< "/proc/$1/stat"); } 2> /dev/null || return 1
	read -r -a stat <<< "${stat##*) }" # the name before may hold anything
	REPLY=${stat[19]}
}
[ -n "${LAB_OWNER-}" ] || { lab_started $$ && LAB_OWNER=$$.$REPLY; }
export LAB_OWNER
# shellcheck disable=SC2034 # for tests
LAB_ENTRY=(10.77.0.101 10.77.0.102) # entry addresses of the pairs p1 and p2, and their shared MAC addresses
# shellcheck disable=SC2034
LAB_ENTRY6=(fd77::101 fd77::102)
LAB_ENTRY_MAC=(52:54:00:77:01:01 52:54:00:77:01:02)

# --- messages, waiting, assertions ----------------------------------------------------------------------------------

uptime_ms() { # milliseconds of CLOCK_BOOTTIME into $REPLY
	local s
	read -r s _ < /proc/uptime
	REPLY=$((10#${s/./}0))
}
log() {
	uptime_ms
	printf '# [%d.%03d] %s\n' $((REPLY / 1000)) $((REPLY % 1000)) "$*" >&2
}
fail() {
	log "FAILED: $*"
	exit 1
}
ends_by_e() { # what ends by `set -e` says where
	set -eE
	trap 'log "status $? of ${BASH_SOURCE[0]##*/}:$LINENO: $BASH_COMMAND"' ERR
}
case $- in *e*) ends_by_e ;; esac
apart() { # apart LOG COMMAND...: in a subshell that ends by `set -e`; its status into rc. Not for `if` or `||`: in there set -e has no effect
	local flags=$-
	set +e
	trap - ERR
	(ends_by_e; "${@:2}") > "$1" 2>&1
	rc=$?
	case $flags in *e*) ends_by_e ;; esac
}
assert() { # assert COMMAND...
	"$@" || fail "assertion: $*"
}
assert_eq() { # assert_eq WANTED GOT [WHAT]
	[ "$1" = "$2" ] || fail "${3:-value}: wanted '$1', got '$2'"
}
assert_le() { # assert_le GOT LIMIT [WHAT], integers
	[ "$1" -le "$2" ] || fail "${3:-value}: $1 is more than $2"
}
wait_for() { # wait_for SECONDS COMMAND...: until it succeeds; its output is shown only after the time ran out
	local end out rc=0
	uptime_ms
	end=$((REPLY + $1 * 1000))
	shift
	while ! out=$("$@" 2>&1); do
		uptime_ms
		if [ "$REPLY" -ge "$end" ]; then
			log "waited in vain for: $*"
			[ -z "$out" ] || printf "#   %s\n" "${out//$'\n'/$'\n#   '}" >&2
			return 1
		fi
		sleep 0.05
	done
	return $rc
}
during() { # during SECONDS COMMAND...: holds all that time, so one waits in vain for the opposite
	local seconds=$1
	shift
	not wait_for "$seconds" not "$@" 2> /dev/null
}
keep_busy() { # keep_busy COUNT SECONDS: so many processes want a processor each, all that time
	local i loops=()
	# each in a session of its own: where the kernel groups by session, they would share what one has, and with this script besides
	for ((i = $1; i > 0; i--)); do
		setsid timeout "$2" sh -c 'while :; do :; done' > /dev/null 2>&1 &
		loops+=($!)
	done
	wait "${loops[@]}" || true
}
not() { ! "$@"; }
can_write() { # can_write FILE: found out before an hour of work; a new file is not left there
	local new=yes
	[ ! -e "$1" ] || new=no
	{ : >> "$1"; } 2> /dev/null || return 1
	[ $new = no ] || rm -f "$1"
}
find_line() { # find_line GREP_ARGS...: as grep -q, but reads all of its input: with pipefail a writer cut short would count as failed
	local text
	text=$(cat)
	grep -q "$@" <<< "$text"
}

# --- inside a node, the switch, the client ----------------------------------------------------------------------------

lab_ns() { echo "/run/netns/vl$LAB_ID-$1"; }
lab_clean_env() {
	env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 \
		TERM="${TERM:-dumb}" "$@"
}
on() { # on NODE COMMAND...: inside the node's namespaces
	local pid node=$1
	shift
	read -r pid 2> /dev/null < "$LAB_DIR/$node.pid" || {
		echo "lab: $node is not running" >&2
		return 125
	}
	(cd / && lab_clean_env nsenter -t "$pid" -m -u -i -n -p -- "$@")
}
in_switch() { nsenter --net="$(lab_ns sw)" -- "$@"; }
in_client() { nsenter --net="$(lab_ns cl)" -- "$@"; }
on_net() { # on_net NODE COMMAND...: in the node's network namespace only; works while the node is off, too
	nsenter --net="$(lab_ns "$1")" -- "${@:2}"
}
lab_node_id() { echo "${1#n}"; }
lab_all() { seq -f 'n%g' "$LAB_NODES"; }
lab_witness() { [ "${LAB_WITNESS:-no}" = no ] || echo "n$((LAB_NODES + 1))"; } # its name; not one of lab_all
lab_witness_conf() { # what vmpaird.conf of all nodes says about it
	local n w list=
	w=$(lab_witness)
	for n in $(lab_all); do list+="${list:+, }$n $(lab_node_id "$n") 10.78.0.$(lab_node_id "$n")"; done
	printf 'witness = %s %d 10.78.0.%d\nhosts = %s\n' "$w" "$(lab_node_id "$w")" "$(lab_node_id "$w")" "$list"
}
pings() { on_net "$1" ping -c 1 -W 1 -q "$2" > /dev/null; } # pings NODE ADDRESS
daemon() { # daemon start|stop|kill|freeze|thaw|running NODE NAME
	case "$1" in
	start | stop | running) on "$2" "$LAB_SRC/node.sh" "$1" "$3" ;;
	kill) on "$2" "$LAB_SRC/node.sh" signal "$3" KILL ;;
	freeze) on "$2" "$LAB_SRC/node.sh" signal "$3" STOP ;;
	thaw) on "$2" "$LAB_SRC/node.sh" signal "$3" CONT ;;
	*) fail "daemon: unknown verb $1" ;;
	esac
}

# --- faults of the network ---------------------------------------------------------------------------------------------

lab_planes() { [ "${LAB_LINKS:-1}" = 1 ] && echo u i c || echo u i c d; }
lab_ports() { # lab_ports NODE [PLANES]: the node's switch ports as an nft set
	local p list=
	for p in ${2:-$(lab_planes)}; do list+="${list:+, }\"$1$p\""; done
	echo "{ $list }"
}
cut_off() { in_switch nft add element bridge lab cut "$(lab_ports "$@")"; }       # cut_off NODE ["u i c"]: silently, carrier stays
heal() {                                                                     # heal [NODE ["u i c"]]
	if [ $# -eq 0 ]; then
		in_switch nft 'flush set bridge lab cut; flush set bridge lab oneway'
	else
		in_switch nft delete element bridge lab cut "$(lab_ports "$@")"
	fi
}
drop_from_to() { in_switch nft add element bridge lab oneway "{ \"$1$3\" . \"$2$3\" }"; }    # drop_from_to A B PLANE
pass_from_to() { in_switch nft delete element bridge lab oneway "{ \"$1$3\" . \"$2$3\" }"; } # cl: the client (plane u)
lossy() { # lossy PERCENT [PLANE]: of what nodes send there, on the cluster network
	local p=${2:-c}
	in_switch nft add rule bridge lab through iifname "{ \"n1$p\", \"n2$p\", \"n3$p\" }" numgen random mod 100 '<' "$1" drop
}
unlossy() {
	in_switch nft -a list chain bridge lab through | awk '/numgen/ {print $NF}' | while read -r h; do
		in_switch nft delete rule bridge lab through handle "$h"
	done
}
link_down() { in_switch ip link set "$1${2:-u}" down; }                      # link_down NODE [PLANE]: carrier lost
link_up() { in_switch ip link set "$1${2:-u}" up; }

# --- what vmpair is compared with ---------------------------------------------------------------------------------------

lab_virtualdomain() { # a VM with the first entry address, as resource "vm" under ocf:heartbeat:VirtualDomain
	local n id
	for n in $(lab_all); do
		id=$(lab_node_id "$n")
		vm_xml p1 "${LAB_ENTRY_MAC[0]}" "p1-$id" "${LAB_ENTRY[0]}/24" "192.168.77.$id/24" |
			sed "s|</devices>|<panic model='isa'/>&|" > "$LAB_DIR/$n/etc/libvirt/p1.xml" # a panic ends it (on_crash)
	done
	on n1 pcs resource create vm ocf:heartbeat:VirtualDomain hypervisor=qemu:///system config=/etc/libvirt/p1.xml \
		op monitor interval=10s timeout=30s op start timeout=90s op stop timeout=60s meta migration-threshold=1000000 >&2
}
# lab_keepalived_conf NODE ADDRESS: an address of br-entry under VRRP version 3, adverts every 100 ms; the lower node number is preferred
lab_keepalived_conf() {
	cat <<- EOF
		global_defs {
		    router_id $1
		    vrrp_version 3
		}
		vrrp_instance entry {
		    state BACKUP
		    interface br-entry
		    virtual_router_id 77
		    priority $((101 - $(lab_node_id "$1")))
		    advert_int 0.1
		    virtual_ipaddress {
		        $2/24 dev br-entry
		    }
		}
	EOF
}

# --- the client ---------------------------------------------------------------------------------------------------------

# Several clients can run at once: PROBE names the one meant (default: probe). Its lines go to $LAB_DIR/$PROBE.out, its summary to
# $LAB_DIR/$PROBE.json. It ends with the test.
: "${PROBE:=probe}"
declare -gA PROBE_FD PROBE_PID
probe_start() { client_start probe "$@"; }     # probe_start ADDRESS [OPTION...]
history_start() { client_start history "$@"; } # history_start ADDRESS [OPTION...]; probe_mark and probe_stop do for it as well
client_start() { # client_start PROGRAM ADDRESS [OPTION...]
	local program=$1 address=$2 fd
	shift 2
	rm -f "$LAB_DIR/$PROBE".{in,out,json}
	mkfifo "$LAB_DIR/$PROBE.in"
	exec {fd}<> "$LAB_DIR/$PROBE.in"
	(
		# the input of other clients must not stay open as long as this one runs
		for other in "${PROBE_FD[@]}"; do exec {other}>&-; done
		exec nsenter --net="$(lab_ns cl)" -- "$LAB_BUILD/tests/lab/$program" -o "$LAB_DIR/$PROBE.json" "$@" "$address" \
			< "$LAB_DIR/$PROBE.in" > "$LAB_DIR/$PROBE.out" {fd}>&-
	) &
	PROBE_PID[$PROBE]=$!
	exec {fd}>&-
	# opened for writing only, once there is a reader: the client sees the end of input when the test dies
	exec {fd}> "$LAB_DIR/$PROBE.in"
	PROBE_FD[$PROBE]=$fd
	wait_for 20 grep -q '^first' "$LAB_DIR/$PROBE.out"
}
probe_mark() { # probe_mark NAME: what follows counts for this segment
	local before
	before=$(grep -c '^mark' "$LAB_DIR/$PROBE.out") || true
	echo "mark $1" >&"${PROBE_FD[$PROBE]}"
	wait_for 5 eval "[ \"\$(grep -c '^mark' '$LAB_DIR/$PROBE.out')\" -gt $before ]"
}
probe_since_mark() { awk '/^mark/ {out = ""; next} {out = out $0 "\n"} END {printf "%s", out}' "$LAB_DIR/$PROBE.out"; }
probe_saw() { probe_since_mark | find_line "^$1"; } # probe_saw PATTERN: a line since the last mark, e.g. 'change .* p1-2$'
probe_worst() { # the longest gap since the last mark that has ended, whole ms
	probe_since_mark | awk '/^gap/ && $4 > worst {worst = $4} END {printf "%d\n", worst}'
}
probe_stop() { # summary: $LAB_DIR/$PROBE.json; fails when the history checker found something wrong
	local fd=${PROBE_FD[$PROBE]}
	local rc=0
	echo quit >&"$fd"
	wait "${PROBE_PID[$PROBE]}" || rc=$?
	exec {fd}>&-
	unset "PROBE_FD[$PROBE]" "PROBE_PID[$PROBE]"
	return $rc
}
probe_value() { # probe_value SEGMENT KEY: a number of the summary; "all" for the totals
	if [ "$1" = all ]; then
		jq -e ".$2" "$LAB_DIR/$PROBE.json"
	else
		jq -e --arg s "$1" ".segments[] | select(.name == \$s).$2" "$LAB_DIR/$PROBE.json"
	fi
}
probe_answers() { # somebody answers at the address: probe_answers ADDRESS [MEMBER]
	local got
	got=$(in_client curl -s -g --max-time 0.5 "http://$1/") && [[ $got == "member ${2-}"* ]]
}

# --- virtual machines without vmpaird -----------------------------------------------------------------------------------

vm_xml() { # vm_xml NAME ENTRY_MAC HOSTNAME ENTRY_CIDRS INTERNAL_CIDR: a domain that brings its identity along
	lab_domain_xml "$1" "$2" | awk -v pair="$1" -v host="$3" -v entry="$4" -v internal="$5" -v mac="$2" '
		{print}
		/<name>/ {
			print "  <sysinfo type=\047fwcfg\047>"
			entries["pair"] = pair; entries["hostname"] = host; entries["entry"] = entry
			entries["internal-address"] = internal; entries["entry-mac"] = mac
			for (e in entries)
				printf "    <entry name=\047opt/org.vmpair/%s\047>%s</entry>\n", e, entries[e]
			print "  </sysinfo>"
		}'
}
vm_start() { # vm_start NODE NAME ...: as vm_xml
	vm_xml "${@:2}" > "$LAB_DIR/$1/etc/libvirt/$2.xml"
	on "$1" virsh -q create "/etc/libvirt/$2.xml"
}
vm_pid() { on "$1" cat "/run/libvirt/qemu/$2.pid"; } # vm_pid NODE NAME: as the node counts
vm_running() { [ "$(on "$1" virsh -q domstate "$2" 2> /dev/null)" = running ]; }

# --- making and unmaking ----------------------------------------------------------------------------------------------

lab_netns_add() { # lab_netns_add NAME: a namespace without duplicate address detection
	ip netns add "vl$LAB_ID-$1"
	nsenter --net="$(lab_ns "$1")" -- sysctl -q -w net.ipv6.conf.all.accept_dad=0 net.ipv6.conf.default.accept_dad=0 \
		net.ipv6.conf.default.accept_ra=0
	ip -n "vl$LAB_ID-$1" link set lo up
}

lab_switch_up() {
	local p
	lab_netns_add sw
	lab_netns_add cl
	for p in $(lab_planes); do
		ip -n "vl$LAB_ID-sw" link add "sw-$p" type bridge stp_state 0 forward_delay 0 mcast_snooping 0
		ip -n "vl$LAB_ID-sw" link set "sw-$p" up
	done
	ip -n "vl$LAB_ID-cl" link add cl0 type veth peer name clu netns "vl$LAB_ID-sw"
	ip -n "vl$LAB_ID-sw" link set clu master sw-u up
	ip -n "vl$LAB_ID-cl" link set cl0 up
	ip -n "vl$LAB_ID-cl" addr add 10.77.0.250/24 dev cl0
	ip -n "vl$LAB_ID-cl" addr add fd77::fa/64 dev cl0
	# what the members share (a database) is on their own plane, as in life
	ip -n "vl$LAB_ID-cl" link add cl1 type veth peer name cli netns "vl$LAB_ID-sw"
	ip -n "vl$LAB_ID-sw" link set cli master sw-i up
	ip -n "vl$LAB_ID-cl" link set cl1 up
	ip -n "vl$LAB_ID-cl" addr add 192.168.77.250/24 dev cl1
	in_switch nft -f - <<- 'EOF'
		table bridge lab {
			set cut { type ifname; }
			set oneway { type ifname . ifname; }
			chain in { type filter hook prerouting priority -300; iifname @cut drop; }
			chain through { type filter hook forward priority 0; oifname @cut drop; iifname . oifname @oneway drop; }
		}
	EOF
}

declare -A LAB_NIC=([u]=up0 [i]=int0 [c]=clu0 [d]=clu1)
lab_node_net_up() { # lab_node_net_up NODE: namespace, cables, bridges
	local node=$1 id ns p nic
	id=$(lab_node_id "$node")
	ns=vl$LAB_ID-$node
	lab_netns_add "$node"
	for p in $(lab_planes); do
		nic=${LAB_NIC[$p]}
		ip -n "$ns" link add "$nic" type veth peer name "$node$p" netns "vl$LAB_ID-sw"
		ip -n "vl$LAB_ID-sw" link set "$node$p" master "sw-$p" up
	done
	# a bridge takes the lowest MAC of its ports unless told: taps come and go
	ip -n "$ns" link add br-entry address "02:77:00:00:00:$(printf %02x "$id")" type bridge stp_state 0 \
		forward_delay 0 mcast_snooping 0
	ip -n "$ns" link add br-int address "02:77:01:00:00:$(printf %02x "$id")" type bridge stp_state 0 \
		forward_delay 0 mcast_snooping 0
	ip -n "$ns" link set up0 master br-entry up
	ip -n "$ns" link set int0 master br-int up
	ip -n "$ns" link set clu0 up
	if [ "${LAB_LINKS:-1}" = 2 ]; then
		ip -n "$ns" link set clu1 up
		ip -n "$ns" addr add "10.79.0.$id/24" dev clu1
	fi
	ip -n "$ns" link set br-entry up
	ip -n "$ns" link set br-int up
	ip -n "$ns" addr add "10.77.0.$id/24" dev br-entry
	ip -n "$ns" addr add "fd77::$id/64" dev br-entry
	ip -n "$ns" addr add "192.168.77.$((100 + id))/24" dev br-int # of pair p1
	ip -n "$ns" addr add "192.168.78.$((100 + id))/24" dev br-int # of pair p2
	ip -n "$ns" addr add "10.78.0.$id/24" dev clu0
	ip -n "$ns" addr add "fd78::$id/64" dev clu0
}

lab_node_config() { # lab_node_config NODE: its own /etc and /var below $LAB_DIR/NODE
	local node=$1 d=$LAB_DIR/$1 n i
	mkdir -p "$d"/etc/{corosync,libvirt/qemu/networks,vmpair,pacemaker,keepalived} "$d"/var/lib/pacemaker/cib "$d/over/etc"
	{
		cat <<- EOF
			totem {
			    version: 2
			    cluster_name: lab
			    transport: knet
			    crypto_cipher: aes256
			    crypto_hash: sha256
			    token: $LAB_TOKEN
			}
			quorum {
			    provider: corosync_votequorum
			    two_node: $((LAB_NODES == 2))
			}
			logging {
			    to_stderr: no
			    to_logfile: yes
			    logfile: /var/log/corosync/corosync.log
			    to_syslog: no
			    timestamp: hires
			}
			system {
			    move_to_root_cgroup: no
			}
			nodelist {
		EOF
		for n in $(lab_all); do
			i=$(lab_node_id "$n")
			printf '    node {\n\tname: %s\n\tnodeid: %d\n\tring0_addr: 10.78.0.%d\n' "$n" "$i" "$i"
			[ "${LAB_LINKS:-1}" = 1 ] || printf '\tring1_addr: 10.79.0.%d\n' "$i"
			printf '    }\n'
		done
		echo '}'
	} > "$d/etc/corosync/corosync.conf"
	install -m 400 "$LAB_DIR/authkey" "$d/etc/corosync/authkey"
	install -m 640 -g haclient "$LAB_DIR/authkey" "$d/etc/pacemaker/authkey"

	cat > "$d/etc/libvirt/qemu.conf" <<- EOF
		user = "root"
		group = "root"
		security_driver = "none"
		cgroup_controllers = [ ]
		namespaces = [ ]
		remember_owner = 0
		stdio_handler = "file"
		vnc_listen = "127.0.0.1"
	EOF
	cat > "$d/etc/libvirt/libvirtd.conf" <<- EOF
		auth_unix_ro = "none"
		auth_unix_rw = "none"
		unix_sock_group = "root"
		host_uuid_source = "machine-id"
		log_level = 3
		log_outputs = "3:file:/var/log/libvirt/libvirtd.log"
	EOF
	mkdir -p "$d/etc/libvirt/hooks"
	cat > "$d/etc/libvirt/hooks/qemu" <<- EOF
		#!/bin/sh
		[ "\$2" != started ] || exec "$LAB_SRC/node.sh" weigh "\$(cat "/run/libvirt/qemu/\$1.pid")"
	EOF
	chmod 755 "$d/etc/libvirt/hooks/qemu"

	printf 'hb_ms = 20\nlease_ms = %d\nbinding_log = yes\nlog_level = info\n' "${LAB_LEASE_MS:-150}" > "$d/etc/vmpair/vmpaird.conf"
	[ -z "$(lab_witness)" ] || lab_witness_conf >> "$d/etc/vmpair/vmpaird.conf"
	if [ "$node" = "$(lab_witness)" ]; then # it is no node of the cluster
		rm -rf "$d"/etc/{corosync,pacemaker}/*
		touch "$d/etc/vmpair/witness.lab"
	fi
	install -m 600 "$LAB_DIR/keys" "$d/etc/vmpair/keys"
	if [ "${LAB_CLOCKS-}" = yes ]; then
		install -m 755 "$LAB_BUILD/tests/lab/wallclock.so" "$d/etc/vmpair/"
		printf '%-15s\n' +0 > "$d/etc/vmpair/clock.lab"
	fi
	for i in 0 1; do
		lab_domain_xml "p$((i + 1))" "${LAB_ENTRY_MAC[i]}" > "$d/etc/vmpair/p$((i + 1)).xml"
	done
	{
		printf '127.0.0.1 localhost\n::1 localhost\n'
		for n in $(lab_all); do echo "10.78.0.$(lab_node_id "$n") $n"; done
	} > "$d/over/etc/hosts"
	echo "$node" > "$d/over/etc/hostname"

	# load-threshold: each of the nodes takes the load of the whole machine for its own, and would do one action at a time
	cat > "$d/var/lib/pacemaker/cib/cib.xml" <<- EOF
		<cib crm_feature_set="3.16.0" validate-with="pacemaker-3.9" admin_epoch="0" epoch="1" num_updates="0">
		  <configuration>
		    <crm_config>
		      <cluster_property_set id="cib-bootstrap-options">
		        <nvpair id="cib-bootstrap-options-stonith-enabled" name="stonith-enabled" value="false"/>
		        <nvpair id="cib-bootstrap-options-no-quorum-policy" name="no-quorum-policy" value="demote"/>
		        <nvpair id="cib-bootstrap-options-start-failure-is-fatal" name="start-failure-is-fatal" value="false"/>
		        <nvpair id="cib-bootstrap-options-pe-input-series-max" name="pe-input-series-max" value="50"/>
		        <nvpair id="cib-bootstrap-options-load-threshold" name="load-threshold" value="400%"/>
		        <nvpair id="cib-bootstrap-options-dc-deadtime" name="dc-deadtime" value="2s"/>
		        <nvpair id="cib-bootstrap-options-cluster-name" name="cluster-name" value="lab"/>
		      </cluster_property_set>
		    </crm_config>
		    <nodes/>
		    <resources/>
		    <constraints/>
		  </configuration>
		  <status/>
		</cib>
	EOF
	chmod 600 "$d/var/lib/pacemaker/cib/cib.xml"
	chown -R hacluster:haclient "$d/var/lib/pacemaker"
}

lab_domain_xml() { # lab_domain_xml NAME ENTRY_MAC: a domain as an operator writes it
	local type=qemu
	[ "$LAB_ACCEL" != kvm ] || type=kvm
	sed -e "s/@TYPE@/$type/; s/@NAME@/$1/; s/@ENTRY_MAC@/$2/" "$LAB_SRC/guest/domain.xml.in"
}
lab_domain_apps() { # lab_domain_apps PAIR ENTRY_MAC APPS [STORE]: the same with applications in the guest (bank,redis,relay)
	lab_domain_xml "$1" "$2" | sed -e "s|initrd.gz|initrd-apps.gz|; s|>128<|>256<|; s|nokaslr|& vmpair.apps=$3${4:+ vmpair.store=$4}|"
}

lab_node_boot() { # lab_node_boot NODE: process 1 and file systems; no daemon but syslog yet
	LAB_NODE_DIR=$LAB_DIR/$1 LAB_STAGE=$LAB_BUILD/lab/stage LAB_GUEST_DIR=$LAB_BUILD/lab/guest \
		LAB_CACHE_DIR=$LAB_BUILD/lab/cache lab_boot_env \
		"$LAB_BUILD/tests/lab/nodeinit" "$(lab_ns "$1")" "$1" "$LAB_DIR/$1.pid" "$LAB_SRC/node.sh" setup || {
		echo "lab: $1 did not boot" >&2
		return 1
	}
	daemon start "$1" syslog
}
lab_boot_env() {
	env -i PATH="$PATH" LAB_NODE_DIR="$LAB_NODE_DIR" LAB_STAGE="$LAB_STAGE" LAB_GUEST_DIR="$LAB_GUEST_DIR" \
		LAB_CACHE_DIR="$LAB_CACHE_DIR" "$@"
}

lab_node_daemons() { # lab_node_daemons NODE: in the order of their dependencies
	if [ "$1" = "$(lab_witness)" ]; then
		daemon start "$1" vmpaird
		wait_for 15 lab_vmpaird_answers "$1"
		return
	fi
	daemon start "$1" corosync
	daemon start "$1" libvirtd
	wait_for 30 on "$1" corosync-cmapctl -g runtime.votequorum.this_node_id || return 1
	wait_for 30 on "$1" virsh -q uri || return 1
	if [ "$LAB_VMPAIRD" = yes ]; then
		daemon start "$1" vmpaird
		wait_for 15 lab_vmpaird_answers "$1" || {
			cat "$LAB_DIR/$1/var/log/vmpaird.out" >&2
			return 1
		}
	fi
	daemon start "$1" pacemaker
}
lab_vmpaird_answers() { # it may have nothing good to say yet
	local rc=0
	on "$1" timeout 5 vmpair status > /dev/null 2>&1 || rc=$?
	[ $rc -ne 3 ] && [ $rc -ne 124 ] && [ $rc -ne 127 ]
}

lab_probe_accel() { # kvm when it boots the guest in time, else tcg; asked once per boot of this machine
	local cache
	read -r cache < /proc/sys/kernel/random/boot_id
	cache=$LAB_BUILD/lab/accel.$cache
	if [ ! -s "$cache" ]; then
		rm -f "$LAB_BUILD"/lab/accel.*
		if [ -w /dev/kvm ] && timeout -k 1 5 qemu-system-x86_64 -accel kvm -m 128 -display none -nodefaults \
			-serial stdio -kernel "$LAB_BUILD/lab/guest/vmlinuz" -initrd "$LAB_BUILD/lab/guest/initrd.gz" \
			-append 'console=ttyS0 quiet vmpair.probe' 2> /dev/null < /dev/null | find_line vmpair-guest-boots; then
			echo kvm > "$cache"
		else
			echo tcg > "$cache"
		fi
	fi
	cat "$cache"
}

lab_guest_programs() { # lab_guest_programs STAGE: what the guests with applications carry
	local p
	for p in sbin/vmpair-relay libexec/vmpair/redis-state; do
		[ ! -x "$1/usr/$p" ] || echo "$1/usr/$p"
	done
}

lab_build() { # lab tools, guest, and the programs under test as installed files
	local tools=(tests/lab/nodeinit tests/lab/probe tests/lab/bindcheck tests/lab/hurt tests/lab/vmpaird-faulty tests/lab/history
		tests/lab/entrywatch tests/relay/vmpair-relay-faulty tests/lab/wallclock.so)
	[ -f "$LAB_BUILD/Makefile" ] || {
		echo "lab: $LAB_BUILD is not a configured build directory (set LAB_BUILD)" >&2
		return 1
	}
	if [ "$(grep -cE '^(prefix = /usr|sysconfdir = /etc|localstatedir = /var)$' "$LAB_BUILD/Makefile")" != 3 ]; then
		echo "lab: configure $LAB_BUILD with --prefix=/usr --sysconfdir=/etc --localstatedir=/var (and make clean there)" >&2
		return 1
	fi
	mkdir -p "$LAB_BUILD/lab/cache"
	make -s -C "$LAB_BUILD" "${tools[@]}" || return 1
	rm -rf "$LAB_BUILD/lab/stage.new"
	mkdir -p "$LAB_BUILD/lab/stage.new/usr"
	make -s -C "$LAB_BUILD" install prefix=/usr sysconfdir=/etc DESTDIR="$LAB_BUILD/lab/stage.new" \
		> "$LAB_BUILD/lab/stage.log" 2>&1 || {
		tail -n 20 "$LAB_BUILD/lab/stage.log" >&2
		return 1
	}
	install -m 755 "$LAB_SRC/fence_lab" "$LAB_BUILD/lab/stage.new/usr/sbin/" || return 1
	# shellcheck disable=SC2046 # one word per program
	"$LAB_SRC/guest/mkimage.sh" "$LAB_BUILD/lab/guest" $(lab_guest_programs "$LAB_BUILD/lab/stage.new") || return 1
	if [ -d "$LAB_BUILD/lab/stage" ]; then # in place: nodes that run see the new files after their next boot
		rm -rf "$LAB_BUILD/lab/stage.old"
		mv "$LAB_BUILD/lab/stage" "$LAB_BUILD/lab/stage.old"
	fi
	mv "$LAB_BUILD/lab/stage.new" "$LAB_BUILD/lab/stage"
	rm -rf "$LAB_BUILD/lab/stage.old"
}

lab_owner_lives() { # lab_owner_lives OWNER
	lab_started "${1%.*}" && [ "$REPLY" = "${1#*.}" ]
}
lab_kill_orphans() { # lab_kill_orphans OWNER: what that run started and did not end; nothing when it is ours
	[[ $1 == *.* ]] && [ "$1" != "$LAB_OWNER" ] || return 0
	# again, until there are none: they may start others meanwhile
	wait_for 20 lab_kill_all "$1"
}
lab_kill_all() {
	local list
	list=$(grep -lzxF "LAB_OWNER=$1" /proc/[0-9]*/environ 2> /dev/null) || true
	[ -n "$list" ] || return 0
	# shellcheck disable=SC2046 # one word per process
	kill -KILL $(sed 's|/proc/||; s|/environ||' <<< "$list") 2> /dev/null || true
	echo "$list"
	return 1
}

lab_exists() { [ -d "$LAB_DIR" ] || [ -e "$(lab_ns sw)" ]; }

lab_load() { # the running lab's variables
	[ -f "$LAB_DIR/env" ] || {
		echo "lab: no lab is up here (id $LAB_ID); try: ./run.sh lab up" >&2
		return 1
	}
	# shellcheck disable=SC1091
	. "$LAB_DIR/env"
}

lab_up() { # lab_up: build first; ends when a DC is elected, the partition has quorum and every node is online
	local n pids=() pid owner
	: "${LAB_NODES:=3}" "${LAB_TOKEN:=1000}"
	if read -r owner 2> /dev/null < "$LAB_DIR/owner" && [ "$owner" != "$LAB_OWNER" ] && lab_owner_lives "$owner"; then
		echo "lab: $LAB_ID is in use by process ${owner%.*} ($(tr '\0' ' ' < "/proc/${owner%.*}/cmdline"))" >&2
		return 1
	fi
	lab_exists && lab_down
	LAB_ACCEL=$(lab_probe_accel)
	: "${LAB_VMPAIRD:=$([ -x "$LAB_BUILD/lab/stage/usr/sbin/vmpaird" ] && echo yes || echo no)}"
	mkdir -p "$LAB_DIR"
	mount -t tmpfs -o mode=755,size=2g lab "$LAB_DIR"
	echo "$LAB_OWNER" > "$LAB_DIR/owner"
	: "${LAB_WITNESS:=no}" "${LAB_LINKS:=1}"
	declare -p LAB_ID LAB_NODES LAB_WITNESS LAB_LINKS LAB_BUILD LAB_ACCEL LAB_VMPAIRD LAB_TOKEN |
		sed 's/^declare [-a-z]*/declare -g --/' > "$LAB_DIR/env"
	head -c 256 /dev/urandom > "$LAB_DIR/authkey"
	printf 'key 1 %s send\n' "$(head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \n')" > "$LAB_DIR/keys"

	lab_switch_up
	for n in $(lab_all) $(lab_witness); do
		(
			set -e
			lab_node_net_up "$n"
			lab_node_config "$n"
			lab_node_boot "$n"
			lab_node_daemons "$n"
		) &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do
		wait "$pid" || return 1
	done
	wait_for 120 lab_healthy
}

lab_healthy() { # a DC with quorum that sees every node online
	on n1 crm_mon -1 --output-as=xml | awk -v want="$LAB_NODES" '
		/<current_dc present="true"/ && /with_quorum="true"/ {dc = 1}
		/<node name=/ && /online="true"/ && /pending="false"/ {online++}
		END {exit !(dc && online >= want)}'
}
lab_settled() { # every node is online and Pacemaker has nothing left to do (which takes a while after a node came back)
	lab_healthy && on n1 timeout 60 crm_resource --wait --timeout 50s > /dev/null 2>&1
}
quorate() { # quorate NODE
	local out
	out=$(on "$1" corosync-quorumtool -s 2> /dev/null) || true
	[[ $out =~ Quorate:\ +Yes ]]
}
sees_node() { # sees_node NODE OTHER: Pacemaker on NODE has OTHER online
	on "$1" crm_mon -1 --output-as=xml | find_line "<node name=\"$2\".* online=\"true\""
}
lab_dc() { # lab_dc NODE: name of the DC as NODE sees it
	on "$1" crmadmin -q -D 2>&1 | awk '/Designated/ {print $NF} !/ / {print}' | tail -n 1
}

# A node that is fenced alive had a lease, and nobody waits for its end: bindcheck is told when it lost its power, and with it every entry.
lab_kill_node() { # everything of the node ends at once, its network too
	local pid f=$LAB_DIR/$1/var/log/vmpair/binding.log was=off
	[ ! -e "$LAB_DIR/$1.pid" ] || was=on
	if read -r pid 2> /dev/null < "$LAB_DIR/$1.pid"; then
		# the id may have been reused since: only a process 1 of a pid namespace of its own is a node
		[ "$(awk '/^NSpid:/ {print $NF}' "/proc/$pid/status" 2> /dev/null)" != 1 ] || kill -KILL "$pid"
		wait_for 20 lab_gone "$pid"
	fi
	rm -f "$LAB_DIR/$1.pid"
	if [ -e "$(lab_ns sw)" ]; then
		local p
		for p in $(lab_planes); do ip -n "vl$LAB_ID-sw" link del "$1$p" 2> /dev/null || true; done
	fi
	ip netns del "vl$LAB_ID-$1" 2> /dev/null || true
	# With a fence device a boot that has ended may be followed before its lease has (R3); without, bindcheck goes by the lease alone.
	[ $was = on ] && [ -s "$f" ] && [ -n "${LAB_FENCED-}" ] || return 0
	[ -z "$(tail -c 1 "$f")" ] || sed -i '$d' "$f" # torn
	uptime_ms                                       # in steps of 10 ms
	echo "$((REPLY + 10))000000 off - 0 0" >> "$f"
}
lab_gone() { # process $1 is no more, or only its parent has to notice
	local state
	state=$(awk '/^State:/ {print $2}' "/proc/$1/status" 2> /dev/null)
	[ -z "$state" ] || [ "$state" = Z ]
}
power_off() { lab_kill_node "$1"; }
power_on() { # back from power_off: a boot with the disks as they were; daemons start by themselves
	lab_node_net_up "$1" && lab_node_boot "$1" && lab_node_daemons "$1"
}

# --- a power switch ----------------------------------------------------------------------------------------------------
#
# Fence agent fence_lab, in the nodes, asks it: ask.ID in a node's /etc/vmpair/power holds "off|on|status NODE", answer.ID an exit status.

power_switch_start() { # until power_switch_stop, or the end of the test; "$LAB_DIR/power.broken" makes it refuse everything,
	LAB_FENCED=yes
	# power.lies has it say of everything that it was done, and do nothing
	local n
	for n in $(lab_all); do mkdir -p "$LAB_DIR/$n/etc/vmpair/power"; done
	power_switch_loop > "$LAB_DIR/power.log" 2>&1 &
	POWER_SWITCH=$!
}
power_switch_stop() { kill "$POWER_SWITCH" 2> /dev/null || true; }
power_switch_loop() {
	local f dir action node rc
	set +e
	trap - ERR
	while :; do
		for f in "$LAB_DIR"/n*/etc/vmpair/power/ask.*; do
			[ -e "$f" ] || continue
			dir=${f%/*}
			read -r action node < "$f"
			rc=0
			if [ -e "$LAB_DIR/power.broken" ] || [[ ! " $(lab_all | tr '\n' ' ') " == *" $node "* ]]; then
				rc=1
			elif [ -e "$LAB_DIR/power.lies" ] && [ "$action" != status ]; then
				: # done, as it says
			elif [ "$action" = off ]; then
				[ ! -e "$LAB_DIR/$node.pid" ] || power_off "$node" || rc=1
			elif [ "$action" = on ]; then
				[ -e "$LAB_DIR/$node.pid" ] || power_on "$node" || rc=1
			else
				[ -e "$LAB_DIR/$node.pid" ] || rc=2
			fi
			echo "$action $node: $rc"
			echo $rc > "$dir/.${f##*/ask.}" && mv "$dir/.${f##*/ask.}" "$dir/answer.${f##*/ask.}"
			rm -f "$f"
		done
		sleep 0.1
	done
}

lab_down() { # takes down what is left of this lab, however it ended
	local f ns owner
	# scripts whose runner was killed would go on with the next lab of this name
	if read -r owner 2> /dev/null < "$LAB_DIR/owner"; then lab_kill_orphans "$owner"; fi
	for f in "$LAB_DIR"/n*.pid; do
		[ -e "$f" ] || continue
		f=${f##*/}
		lab_kill_node "${f%.pid}"
	done
	for ns in /run/netns/vl"$LAB_ID"-*; do
		[ -e "$ns" ] || continue
		lab_kill_ns "$ns"
		ip netns del "${ns##*/}" || true
	done
	while mountpoint -q "$LAB_DIR"; do umount -l "$LAB_DIR"; done
	rm -rf "$LAB_DIR"
}
lab_end() { # takes the lab down unless it is another run's
	local owner
	if read -r owner 2> /dev/null < "$LAB_DIR/owner" && [ "$owner" != "$LAB_OWNER" ]; then return 0; fi
	lab_down
}
lab_kill_ns() { # processes in a network namespace of ours, e.g. clients
	local pid ino list=()
	ino=$(stat -L -c %i "$1" 2> /dev/null) || return 0
	for pid in /proc/[0-9]*; do
		[ "$(stat -L -c %i "$pid/ns/net" 2> /dev/null)" != "$ino" ] || list+=("${pid#/proc/}")
	done
	[ ${#list[@]} -gt 0 ] || return 0
	kill "${list[@]}" 2> /dev/null || true # a client ends by this without a word of the shell that waits for it
	for pid in "${list[@]}"; do
		wait_for 1 lab_gone "$pid" 2> /dev/null || kill -KILL "$pid" 2> /dev/null || true
	done
}
lab_leftovers() { # prints what a lab left behind; nothing when it left nothing
	local pid
	ls -d /run/netns/vl"$LAB_ID"-* "$LAB_DIR" 2> /dev/null
	for pid in /proc/[0-9]*; do
		if tr '\0' ' ' < "$pid/mountinfo" 2> /dev/null | find_line -E "$LAB_DIR( |/)" && # of "lab", not of "lab2"
			! lab_gone "${pid#/proc/}"; then
			echo "process ${pid#/proc/}: $(tr '\0' ' ' < "$pid/cmdline" 2> /dev/null)"
		fi
	done
}

lab_check_bindings() { # no two nodes had an entry open at once; prints what the check says
	local n list=()
	for n in $(lab_all); do
		[ ! -f "$LAB_DIR/$n/var/log/vmpair/binding.log" ] || list+=("$n=$LAB_DIR/$n/var/log/vmpair/binding.log")
	done
	[ ${#list[@]} -eq 0 ] || "$LAB_BUILD/tests/lab/bindcheck" -e "${list[@]}"
}

lab_net_state() { # lab_net_state NODE: its links, gates and fences, and how far the network queues of its VMs have come
	local vm dev queue status
	on "$1" sh -c 'ip -s -d link; bridge fdb; ip neigh; nft list ruleset'
	for vm in $(on "$1" timeout 5 virsh list --name 2> /dev/null); do
		for dev in net0 net1; do
			for queue in 0 1; do # 0 to the guest, 1 from it; beside each what index the guest wants to be told of (VIRTIO 1.2, 2.7.7)
				status=$(on "$1" timeout 5 virsh qemu-monitor-command "$vm" \
					"{\"execute\":\"x-query-virtio-queue-status\",\"arguments\":{\"path\":\"/machine/peripheral/$dev/virtio-backend\",\"queue\":$queue}}") || continue
				jq -c --arg who "$vm $dev $queue" '{$who} + .return' <<< "$status"
				on "$1" timeout 5 virsh qemu-monitor-command --hmp "$vm" \
					"xp/1hx $(jq '.return | ."vring-avail" + 4 + 2 * ."vring-num"' <<< "$status")"
			done
		done
	done
}

lab_logs() { # lab_logs DIR: copies every node's logs there
	local n
	mkdir -p "$1"
	for n in $(lab_all) $(lab_witness); do
		[ -d "$LAB_DIR/$n/var/log" ] || continue
		mkdir -p "$1/$n"
		cp -a "$LAB_DIR/$n/var/log/." "$1/$n/" 2> /dev/null || true
		cp -a "$LAB_DIR/$n/var/lib/pacemaker/cib/cib.xml" "$LAB_DIR/$n/var/lib/pacemaker/pengine" "$1/$n/" 2> /dev/null || true
		lab_net_state "$n" > "$1/$n/net-state" 2>&1 || true # of a node that is off: that it is
	done
	log "logs of the nodes: $1"
}
