#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Runs inside a lab node (see nodeinit.c): sets the node's file systems up and handles its daemons by name.
#   node.sh setup | start DAEMON | stop DAEMON | signal DAEMON SIGNAL | running DAEMON | weigh PID
# DAEMON: syslog corosync libvirtd vmpaird pacemaker keepalived svc (the guests' service, on the node itself)
set -euo pipefail
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# Directories a node has for itself and keeps over a power loss; they live in $LAB_NODE_DIR.
own_dirs=(etc/corosync etc/libvirt etc/vmpair etc/pacemaker etc/keepalived var/lib/corosync var/lib/pacemaker
	var/lib/libvirt var/lib/vmpair var/lib/pcsd var/log)

setup() { # environment: LAB_NODE_DIR LAB_STAGE LAB_GUEST_DIR LAB_CACHE_DIR
	local d m

	# The rest of /etc, /var and /usr is the host's, below an upper layer that takes mount points and changes.
	for d in etc var; do
		mkdir -p "$LAB_NODE_DIR/over/$d" "$LAB_NODE_DIR/overlay-work/$d"
		mount -t overlay overlay -o "lowerdir=/$d,upperdir=$LAB_NODE_DIR/over/$d,workdir=$LAB_NODE_DIR/overlay-work/$d" "/$d"
	done
	if [ -d "$LAB_STAGE/usr" ]; then
		mount -t overlay overlay -o "lowerdir=$LAB_STAGE/usr:/usr" /usr
	fi
	for d in "${own_dirs[@]}"; do
		mkdir -p "$LAB_NODE_DIR/$d" "/$d"
		mount --bind "$LAB_NODE_DIR/$d" "/$d"
	done
	mkdir -p /var/lib/libvirt/images /var/cache/libvirt
	mount --bind "$LAB_GUEST_DIR" /var/lib/libvirt/images
	mount --bind "$LAB_CACHE_DIR" /var/cache/libvirt
	install -d -o hacluster -g haclient -m 750 /var/lib/pacemaker/{,cib,pengine,cores,blackbox} /var/log/pacemaker
	mkdir -p /var/log/{corosync,crmsh,libvirt/qemu,vmpair}
	chmod 700 /var/lib/vmpair

	# Anything mounted below /run belongs to the host or to other labs: let go of it, then have a /run of our own.
	awk '$2 ~ "^/run/" {print $2}' /proc/self/mounts | sort -r | while read -r m; do
		umount -l "$m" 2> /dev/null || true
	done
	mount -t tmpfs -o mode=755,size=256m run /run
	mkdir /run/lock /run/lab /run/netns
	install -d -o hacluster -g haclient -m 750 /run/pacemaker
	mkdir -p /run/resource-agents

	mkdir -p /run/lab/dev
	mount -t tmpfs -o mode=755,size=16m dev /run/lab/dev
	for d in null zero full random urandom tty kvm fuse vhost-net net/tun; do
		[ -e "/dev/$d" ] || continue
		mkdir -p "/run/lab/dev/$(dirname "$d")"
		cp -a "/dev/$d" "/run/lab/dev/$d"
	done
	mkdir -p /run/lab/dev/{pts,shm}
	mount --bind /dev/pts /run/lab/dev/pts
	ln -s pts/ptmx /run/lab/dev/ptmx
	ln -s /proc/self/fd /run/lab/dev/fd
	for d in stdin:0 stdout:1 stderr:2; do ln -s "/proc/self/fd/${d#*:}" "/run/lab/dev/${d%:*}"; done
	mount --move /run/lab/dev /dev
	mount -t tmpfs -o mode=1777,size=512m shm /dev/shm

	mount -t sysfs sysfs /sys
	mount -t bpf -o mode=700 bpf /sys/fs/bpf
	# A node that panics must not reboot the machine; reboot(2) in a pid namespace ends the node only.
	[ ! -e /proc/sysrq-trigger ] || mount --bind /dev/null /proc/sysrq-trigger
	cat /proc/sys/kernel/random/uuid > /run/lab/boot_id
	mount --bind /run/lab/boot_id /proc/sys/kernel/random/boot_id
	[ -s /etc/machine-id.lab ] || tr -d - < /proc/sys/kernel/random/uuid > /etc/machine-id.lab
	mount --bind /etc/machine-id.lab /etc/machine-id
}

# Process ids of a daemon, the main one first.
pids() {
	local main state
	read -r main 2> /dev/null < "/run/lab/$1.pid" || return 1
	state=$(awk '{print $3}' "/proc/$main/stat" 2> /dev/null) || true
	[ -n "$state" ] && [ "$state" != Z ] || return 1 # it may end between two looks
	echo "$main"
	case "$1" in # pacemakerd is little without its children, keepalived too
	pacemaker | keepalived) pgrep -P "$main" || true ;;
	esac
}

launch() { # launch NAME COMMAND...: detached, output to the node's log directory
	local name=$1
	shift
	(
		# what the caller has open (locks, pipes of a test) must not live as long as the daemon
		for fd in /proc/self/fd/*; do
			fd=${fd##*/}
			[ "$fd" -le 2 ] || eval "exec $fd>&-"
		done
		# another wall clock than the host's (faults.sh)
		if [ -e /etc/vmpair/clock.lab ]; then
			export LD_PRELOAD=/etc/vmpair/wallclock.so LAB_WALLCLOCK=/etc/vmpair/clock.lab
		fi
		exec setsid "$@" >> "/var/log/$name.out" 2>&1 < /dev/null
	) &
	echo $! > "/run/lab/$name.pid"
}

# What serves clients gets a processor before the daemons do. All nodes of a lab share this machine's few processors, and after a failover
# the work of three Pacemakers would keep a VM from answering for tens of milliseconds; a real node has processors of its own, and
# cgroup weights. By the session, where the kernel groups by it, and by the threads where not.
weigh() {
	{ echo -10 > "/proc/$1/autogroup"; } 2> /dev/null || true
	# shellcheck disable=SC2046 # one word per thread
	renice -n -10 -p $(ls "/proc/$1/task") > /dev/null 2>&1 || true
}

start() {
	! pids "$1" > /dev/null || return 0
	case "$1" in
	syslog) launch syslog busybox syslogd -n -O /var/log/syslog ;;
	corosync) launch corosync corosync -f ;;
	libvirtd)
		rm -f /run/libvirtd.pid
		launch libvirtd libvirtd
		;;
	vmpaird)
		local mode=()
		[ ! -e /etc/vmpair/witness.lab ] || mode=(--witness)
		launch vmpaird vmpaird "${mode[@]}" -c /etc/vmpair/vmpaird.conf -f
		;;
	pacemaker) PCMK_logfile=/var/log/pacemaker/pacemaker.log PCMK_fail_fast=no launch pacemaker pacemakerd ;;
	svc)
		# shellcheck disable=SC2016 # expanded by the shell that becomes the service
		launch svc nice -n -10 sh -c '{ echo -10 > /proc/self/autogroup; } 2> /dev/null; exec "$0"' /var/lib/libvirt/images/guest-svc
		;;
	keepalived) launch keepalived keepalived -n -l -D -f /etc/keepalived/keepalived.conf ;;
	*)
		echo "node.sh: unknown daemon $1" >&2
		return 2
		;;
	esac
}

ended() { # ended DAEMON PID SECONDS: waits for it
	timeout "$3" tail -s 0.01 --pid="$2" -f /dev/null || {
		echo "node.sh: $1 (process $2) does not end within $3 s" >&2
		return 1
	}
}

signal() {
	local list pid
	list=$(pids "$1") || return 0
	# shellcheck disable=SC2086 # one word per process
	kill -s "$2" $list 2> /dev/null || true
	[ "$2" = KILL ] || return 0
	for pid in $list; do # on a busy machine they live on for a while, and a start would find them running
		ended "$1" "$pid" 10 || return
	done
}

stop() { # politely; waits for the end
	local main
	read -r main < <(pids "$1") || return 0
	kill "$main"
	ended "$1" "$main" "${2:-120}"
}

case "${1-}" in
setup) setup ;;
start | signal | stop | weigh) "$@" ;;
running) pids "$2" > /dev/null ;;
*)
	echo "usage: node.sh setup | start DAEMON | stop DAEMON | signal DAEMON SIGNAL | running DAEMON | weigh PID" >&2
	exit 2
	;;
esac
