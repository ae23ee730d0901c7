#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The first minutes of a new node: what `make install` put there, keygen and vmpaird -t as the README has them, without any file of an
# operator. Runs in a mount namespace, whose root is the installed tree over this machine's.
set -u
unset MAKEFLAGS MFLAGS MAKELEVEL # of the make that runs this test: its -w would be in what make is asked for below
[ "$(id -u)" = 0 ] || { echo "needs root"; exit 77; }
if [ "${1-}" != inside ]; then
	dir=$(mktemp -d) || exit 99
	unshare --mount true 2> /dev/null || { rmdir "$dir"; echo "no mount namespaces here"; exit 77; }
	unshare --mount "$0" inside "$dir"
	rc=$?
	rmdir "$dir"
	exit $rc
fi

dir=$2 fail=0
mount -t tmpfs -o mode=755 fresh "$dir" || exit 77
mkdir "$dir"/{stage,upper,work,root}
make -s install DESTDIR="$dir/stage" > "$dir/install.log" 2>&1 || { tail -n 20 "$dir/install.log"; echo "not ok - make install"; exit 1; }
mount -t overlay fresh -o "lowerdir=$dir/stage:/,upperdir=$dir/upper,workdir=$dir/work" "$dir/root" 2> /dev/null ||
	{ echo "no overlay file system here"; exit 77; }
mount --rbind /proc "$dir/root/proc" && mount --rbind /dev "$dir/root/dev" || exit 99 # a leak checker asks /proc for its threads

# shellcheck disable=SC2016 # of make
value() { # value NAME: a variable of the Makefile, expanded
	make -s --no-print-directory -f Makefile -f <(printf 'vmp-value:\n\t@echo $(%s)\n' "$1") vmp-value
}
sysconfdir=$(value sysconfdir) sbindir=$(value sbindir) bindir=$(value bindir)
etc=$sysconfdir/vmpair
conf=$etc/vmpaird.conf
on() { chroot "$dir/root" "$@" 2>&1; }
ok() { # ok WHAT STATUS PATTERN COMMAND...: it ends with that status and says so
	local what=$1 status=$2 want=$3 out rc=0
	shift 3
	out=$(on "$@") || rc=$?
	if [ $rc = "$status" ] && grep -q -- "$want" <<< "$out"; then
		echo "ok - $what"
	else
		echo "not ok - $what: status $rc, wanted $status with '$want'; it says: $out"
		fail=1
	fi
}
is() { # is WHAT WANTED GOT
	if [ "$2" = "$3" ]; then
		echo "ok - $1"
	else
		echo "not ok - $1: wanted '$2', got '$3'"
		fail=1
	fi
}

is 'make install makes the directory of the configuration' 755 "$(stat -c %a "$dir/stage$etc")"
on rm -rf "$etc" # what this machine may have there, and as from a package that does not carry it
ok 'without a key vmpaird -t says what to do' 1 'keys: No such file.*vmpair keygen' "$sbindir/vmpaird" -t
ok 'keygen on a new node' 0 "$etc/keys: new key" env umask=022 "$bindir/vmpair" keygen
is 'keys are of root and closed to others' '600 0' "$(on stat -c '%a %u' "$etc/keys")"
is 'their directory is open: XML files are in it' 755 "$(on stat -c %a "$etc")"
ok 'a second keygen spoils nothing' 1 'exists already' "$bindir/vmpair" keygen
ok 'vmpaird -t without vmpaird.conf' 0 "$conf: missing, all defaults" "$sbindir/vmpaird" -t
ok 'vmpair check-config without vmpaird.conf' 0 'missing: all defaults' "$bindir/vmpair" check-config
ok 'a file that was named must be there' 1 "$conf: No such file" "$sbindir/vmpaird" -t -c "$conf"
ok 'for check-config, too' 1 "$conf: No such file" "$bindir/vmpair" check-config --file="$conf"
on sh -c "$sbindir/vmpaird --print-config > $conf"
ok 'what --print-config prints is a good file' 0 "$conf: good" "$sbindir/vmpaird" -t
on sh -c "echo colour = blue >> $conf"
ok 'a bad line of the usual file is an error' 1 "$conf:[0-9]*: unknown option" "$sbindir/vmpaird" -t
ok 'wrong usage' 2 'Usage' "$sbindir/vmpaird" --colour

# the order of boot, and what systemd itself says of the units
unit=$(value systemdsystemunitdir)/vmpaird.service
field() { on sed -n "s/^$1=//p" "$unit" | tr '\n' ' '; }
for w in 'After corosync.service' 'After libvirtd.service' 'Before pacemaker.service' 'Type notify' 'Restart always' 'KillMode process'; do
	[[ " $(field "${w% *}")" == *" ${w#* } "* ]]
	is "vmpaird.service: ${w/ /=}" 0 $?
done
if command -v systemd-analyze > /dev/null; then
	for u in "$unit" "${unit%.service}-witness.service"; do
		is "systemd-analyze verify ${u##*/}" '' "$(on systemd-analyze verify --man=no "$u" | grep -F "${u##*/}")"
	done
fi

make -s uninstall DESTDIR="$dir/stage" > "$dir/uninstall.log" 2>&1 || { tail -n 20 "$dir/uninstall.log"; echo 'not ok - make uninstall'; fail=1; }
is 'make uninstall leaves no file' '' "$(find "$dir/stage" ! -type d)"
exit $fail
