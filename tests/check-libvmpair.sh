#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What the headers declare is exactly what the shared library exports, what the archive has, and what the manual describes.
set -u
top=${srcdir:-.}
fail=0
bad() { echo "not ok - $*"; fail=1; }

declared=$(cat "$top"/include/vmpair/*.h | grep -v '^static' | grep -oE '\bvmpair_[a-z_]+\(' | tr -d '(' | sort -u)
for name in $declared; do	# called in an inline function, or named in a comment
	grep -hE "^[a-z].*[ *]$name\(" "$top"/include/vmpair/*.h | grep -qv '^static' || declared=$(grep -vx "$name" <<< "$declared")
done
exported=$(nm -D --defined-only .libs/libvmpair.so | awk '$2 == "T" {sub(/@.*/, "", $3); print $3}' | sort -u)
[ "$declared" = "$exported" ] || bad "headers and shared library differ: $(diff <(echo "$declared") <(echo "$exported") | grep '^[<>]')"
archive=$(nm --defined-only libvmpair.a 2> /dev/null | awk '$2 == "T" {print $3}' | sort -u)
missing=$(comm -23 <(echo "$declared") <(echo "$archive"))
[ -z "$missing" ] || bad "the archive lacks $missing"
alien=$(grep -v '^vmpair_' <<< "$archive")
[ -z "$alien" ] || bad "the archive has names of others: $alien"
mapped=$(grep -oE '\bvmpair_[a-z_]+;' "$top/heartbeat/lib/libvmpair.map" | tr -d ';' | sort)
[ "$declared" = "$mapped" ] || bad "headers and map differ: $(diff <(echo "$declared") <(echo "$mapped") | grep '^[<>]')"
for name in $declared; do
	grep -qE "^\.Fn $name( |$)" "$top"/man/*.3 || bad "$name has no manual page"
done
if command -v mandoc > /dev/null; then
	for page in "$top"/man/*.3; do
		out=$(mandoc -Tlint -Wwarning "$page" 2>&1) || bad "$page: $out"
	done
fi
for header in sync role; do
	for lang in c c++; do
		echo "#include <vmpair/$header.h>" | ${CC:-cc} -x $lang -I "$top/include" -Wall -Wextra -Werror -fsyntax-only - 2> /dev/null ||
			bad "vmpair/$header.h alone is no $lang"
	done
done
[ $fail = 0 ] && echo "ok - libvmpair: $(wc -w <<< "$declared") functions declared, exported and described"
exit $fail
