#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Manual pages: without a complaint from mandoc, and complete: every command, option and parameter is in its page.
set -u
command -v mandoc > /dev/null || { echo "mandoc is missing (package mandoc)"; exit 77; }
man=${srcdir:-.}/man
fail=0
bad() { echo "not ok - $*"; fail=1; }
text() { mandoc -Tascii "$1" | col -b | tr -s ' \n' '  '; }

for page in "$man/fence_vmpair.8" "$man/vmpair.8" "$man/vmpair-guest.8" "$man/vmpair-relay.8" "$man/vmpaird.8" man/vmpaird.conf.5 man/ocf_vmpair_pair.7 man/vmpair-keepalived.7; do
	# STYLE and the missing pages of other packages are not complaints
	out=$(mandoc -Tlint -Wwarning "$page" 2>&1) || bad "$page: $out"
done

page=$(text "$man/vmpair.8")
while read -r command _; do
	[[ $page == *"$command"* ]] || bad "vmpair(8) does not know the command $command"
	while read -r option; do
		[[ $page == *"--${option}"* ]] || bad "vmpair(8) does not know --$option (of $command)"
	done < <(./vmpair "$command" --help | grep -oE -- '--[a-z]+' | sort -u | cut -c3- | grep -vx all-commands)
done < <(./vmpair --help | sed -n '/^Commands:/,/^$/p' | sed '1d;/^$/d')

for program in vmpair-guest vmpair-relay; do
	page=$(text "$man/$program.8")
	while read -r option; do
		[[ $page == *"--$option"* ]] || bad "$program(8) does not know --$option"
	done < <("./$program" --help | grep -oE -- '--[a-z-]+' | sort -u | cut -c3- | grep -vxE 'help|version')
done

page=$(text man/vmpaird.conf.5)
while read -r name; do
	[[ $page == *"$name"* ]] || bad "vmpaird.conf(5) does not know $name"
done < <(sed -n 's/^\tX([A-Z]*, [a-z_]*, "\([a-z_]*\)".*/\1/p' "${srcdir:-.}/daemon/conf.h")

page=$(text man/ocf_vmpair_pair.7)
while read -r name; do
	[[ $page == *" $name "* ]] || bad "ocf_vmpair_pair(7) does not know $name"
done < <(agents/pair meta-data | sed -n 's/.*<parameter name="\([a-z_]*\)".*/\1/p')
page=$(text "$man/fence_vmpair.8")
while read -r option; do
	[[ $page == *"--$option"* ]] || bad "fence_vmpair(8) does not know --$option"
done < <(agents/fence_vmpair --help | grep -oE -- '--[a-z-]+' | sort -u | cut -c3-)
[ $fail = 0 ] && echo "ok - manual pages"
exit $fail
