#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The core is pure: its objects may call nothing but each other, the four memory functions, and what a compiler adds for
# stack protection, sanitizers and coverage. No allocation, I/O, clock, locale or logging can be reached from it.
set -eu
lib=${1:-.libs/libvmpcore.a}
[ -f "$lib" ] || { echo "check-purity: $lib is missing"; exit 99; }
bad=$(nm -u "$lib" | awk '$1 == "U" { print $2 }' | sort -u |
	grep -vE '^(vmp_[a-z_0-9]+|memset|memcpy|memcmp|memmove|__(memset|memcpy|memmove)_chk|__stack_chk_fail|_GLOBAL_OFFSET_TABLE_|__(asan|ubsan|tsan|sanitizer|gcov|llvm)_.*)$' || :)
if [ -n "$bad" ]; then
	echo "check-purity: the core calls:"
	echo "$bad"
	exit 1
fi
# constant tables with pointers live in .data.rel.ro; sanitizers and coverage bring data of their own
if ! nm "$lib" | grep -qE '__(asan|ubsan|tsan|gcov|llvm|sanitizer)_'; then
	data=$(size -A "$lib" | awk '($1 == ".data" || $1 == ".bss") && $2 > 0')
	[ -z "$data" ] || { echo "check-purity: the core has writable data: $data"; exit 1; }
fi
