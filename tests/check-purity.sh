#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# The core and the framings are pure: their objects may call nothing but each other, functions on memory, and what a compiler
# adds for stack protection, sanitizers and coverage. No allocation, I/O, clock, locale or logging can be reached from them.
set -eu
check() { # check LIBRARY ALSO-ALLOWED
	lib=$1
	[ -f "$lib" ] || { echo "check-purity: $lib is missing"; exit 99; }
	bad=$(nm -u "$lib" | awk '$1 == "U" { print $2 }' | sort -u |
		grep -vE "^(vmp_[a-z_0-9]+|memset|memcpy|memcmp|memmove$2|__(memset|memcpy|memmove)_chk|__stack_chk_fail|_GLOBAL_OFFSET_TABLE_|__(asan|ubsan|tsan|sanitizer|gcov|llvm)_.*)\$" || :)
	if [ -n "$bad" ]; then
		echo "check-purity: $lib calls:"
		echo "$bad"
		exit 1
	fi
	# constant tables with pointers live in .data.rel.ro; sanitizers and coverage bring data of their own
	if ! nm "$lib" | grep -qE '__(asan|ubsan|tsan|gcov|llvm|sanitizer)_'; then
		data=$(size -A "$lib" | awk '($1 == ".data" || $1 == ".bss") && $2 > 0')
		[ -z "$data" ] || { echo "check-purity: $lib has writable data: $data"; exit 1; }
	fi
}
if [ $# -gt 0 ]; then
	check "$1" ''
else
	check .libs/libvmpcore.a ''
	check .libs/libvmpframe.a '|memchr|strlen|strcmp|strncmp'
fi
