#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# mkimage.sh DIR [PROGRAM...]: puts the lab's guest into DIR: vmlinuz (Debian's standard kernel, unpacked, not installed),
# initrd.gz (busybox, the modules of a virtio guest, svc, bank, vmpair-guest), guest-svc and guest-bank, the services alone, and
# initrd-apps.gz: the same with Redis and each PROGRAM, with the libraries they need. Does nothing when DIR is up to date.
set -euo pipefail

out=${1:?usage: mkimage.sh DIR [PROGRAM...]}
programs=("${@:2}")
src=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
modules=(drivers/virtio/virtio_ring drivers/virtio/virtio drivers/virtio/virtio_pci_legacy_dev
	drivers/virtio/virtio_pci_modern_dev drivers/virtio/virtio_pci net/core/failover drivers/net/net_failover
	drivers/net/virtio_net drivers/firmware/qemu_fw_cfg drivers/acpi/button drivers/input/evdev
	drivers/block/virtio_blk drivers/char/virtio_console drivers/misc/pvpanic/pvpanic drivers/misc/pvpanic/pvpanic-mmio
	drivers/watchdog/watchdog drivers/watchdog/i6300esb)
guest_c=$src/../../../guest/vmpair-guest.c

mkdir -p "$out"
exec 9> "$out/.lock"
flock 9
tmp=$(mktemp -d "$out/.tmp.XXXXXX")
trap 'rm -rf "$tmp"' EXIT

if [ ! -f "$out/vmlinuz" ] || [ ! -f "$out/modules/i6300esb.ko" ]; then
	kernel_package() { apt-cache depends linux-image-amd64 2> /dev/null | awk '$1 == "Depends:" && !n++ {print $2}'; }
	package=$(kernel_package)
	if [ -z "$package" ]; then
		apt-get -qq update || true
		package=$(kernel_package)
		[ -n "$package" ] || { echo "mkimage.sh: apt knows no linux-image-amd64 here" >&2; exit 1; }
	fi
	# mirrors fail now and then; the sandbox user of apt cannot write below our directory
	for try in 1 2 3; do
		(cd "$tmp" && apt-get -q -o APT::Sandbox::User=root download "$package" > download.log 2>&1) && break
		apt-get -qq update || true # a newer kernel may have replaced the one that apt knows
		package=$(kernel_package)
		[ "$try" -lt 3 ] || { cat "$tmp/download.log" >&2; exit 1; }
	done
	dpkg-deb -x "$tmp"/*.deb "$tmp/kernel"
	mkdir -p "$tmp/modules"
	for m in "${modules[@]}"; do
		cp "$tmp"/kernel/lib/modules/*/kernel/"$m.ko" "$tmp/modules/"
	done
	strip --strip-debug "$tmp"/modules/*.ko
	rm -rf "$out/modules"
	mv "$tmp/modules" "$out/modules"
	mv "$tmp"/kernel/boot/vmlinuz-* "$out/vmlinuz"
fi

if [ ! -f "$out/initrd.gz" ] || [ ! -f "$out/guest-bank" ] || [ "$src/svc.c" -nt "$out/initrd.gz" ] || [ "$src/init" -nt "$out/initrd.gz" ] ||
	[ "$src/mkimage.sh" -nt "$out/initrd.gz" ] || [ "$src/../apps/bank.c" -nt "$out/initrd.gz" ] || [ "$guest_c" -nt "$out/initrd.gz" ] || [ "$out/vmlinuz" -nt "$out/initrd.gz" ]; then
	root=$tmp/root
	mkdir -p "$root"/{bin,dev,etc,lib,proc,sys,tmp}
	"${CC:-gcc}" -std=gnu11 -D_GNU_SOURCE -O2 -static -s -Wall -Wextra -Werror -o "$root/bin/guest-svc" "$src/svc.c"
	"${CC:-gcc}" -std=gnu11 -D_GNU_SOURCE -O2 -static -s -Wall -Wextra -Werror -o "$root/bin/bank" "$src/../apps/bank.c"
	"${CC:-gcc}" -std=gnu11 -D_GNU_SOURCE -O2 -static -s -Wall -Wextra -Werror -I "$out/../.." -o "$root/bin/vmpair-guest" "$guest_c"
	cp "$root/bin/guest-svc" "$out/guest-svc" # for services that run on a node itself
	cp "$root/bin/bank" "$out/guest-bank"
	cp "$(command -v busybox)" "$root/bin/busybox"
	"$root/bin/busybox" --list | grep -vx busybox | while read -r applet; do
		ln -s busybox "$root/bin/$applet"
	done
	cp "$out"/modules/*.ko "$root/lib/"
	install -m 755 "$src/init" "$root/init"
	(cd "$root" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) | gzip -1 > "$tmp/initrd.gz"
	mv "$tmp/initrd.gz" "$out/initrd.gz"
fi

# The kernel takes archives one behind the other.
apps=("$(command -v redis-server)" "${programs[@]}")
stale=
for a in "${apps[@]}" "$out/initrd.gz" "$src/mkimage.sh"; do
	[ -f "$out/initrd-apps.gz" ] && [ ! "$a" -nt "$out/initrd-apps.gz" ] || stale=yes
done
if [ -n "$stale" ]; then
	root=$tmp/apps
	mkdir -p "$root/bin"
	cp "$src"/../apps/{bank,apps}-state "$root/bin/"
	for a in "${apps[@]}"; do
		cp -L "$a" "$root/bin/$(basename "$a")"
		LD_LIBRARY_PATH=$(dirname "$a")/../lib ldd "$a" | awk '$2 == "=>" {print $3} $1 ~ /^\// {print $1}' | while read -r lib; do
			mkdir -p "$root$(dirname "$lib")"
			cp -Lu "$lib" "$root$lib"
		done
	done
	(cd "$root" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) | gzip -1 > "$tmp/apps.gz"
	cat "$out/initrd.gz" "$tmp/apps.gz" > "$tmp/initrd-apps.gz"
	mv "$tmp/initrd-apps.gz" "$out/initrd-apps.gz"
fi
