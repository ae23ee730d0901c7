#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What vmpaird costs with 50 pairs defined, one of them running and whole: share of a core over 10 s, memory; on every node.
# metrics: idle.cpu_percent idle.rss_mib
# limits: idle.cpu_percent:median:2 idle.rss_mib:median:40
# vmpaird: yes
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
# shellcheck source-path=SCRIPTDIR source=../pair.sh
. "$LAB_SRC/pair.sh"

pair_create 1 >&2
wait_for 120 pair_whole p1 || fail 'the pair did not come up'

{
	echo '<configuration><resources>'
	for ((i = 2; i <= 50; i++)); do
		mac=52:54:00:77:02:$(printf %02x "$i")
		for n in $(lab_all); do lab_domain_xml "p$i" "$mac" > "$LAB_DIR/$n/etc/vmpair/p$i.xml"; done
		sed -n '/<clone id/,/<\/clone>/p' "$LAB_TOP/cib-examples/pair.xml" | sed -e "s/\"web\"/\"p$i\"/g; s/web-/p$i-/g; s|/web.xml|/p$i.xml|" \
			-e "s|192.0.2.10/24|10.77.0.$((100 + i))/24|; s|192.168.77.0/24@br-int|192.168.$((76 + i)).0/24@br-int|" \
			-e "s|<meta_attributes id=\"p$i-clone-meta\">|&<nvpair id=\"p$i-off\" name=\"target-role\" value=\"Stopped\"/>|"
	done
	echo '</resources></configuration>'
} > "$LAB_DIR/n1/etc/vmpair/many.xml"
on n1 cibadmin -M -c -o configuration -x /etc/vmpair/many.xml >&2
on n1 timeout 300 crm_resource --wait >&2
wait_for 60 pair_whole p1

hz=$(getconf CLK_TCK)
declare -A ticks
# shellcheck disable=SC2016 # expanded inside the node
cpu_ticks() { on "$1" sh -c 'awk "{print \$14 + \$15}" "/proc/$(cat /run/lab/vmpaird.pid)/stat"'; }
for ((r = 0; r < RUNS; r++)); do
	uptime_ms; t0=$REPLY
	for n in $(lab_all); do ticks[$n]=$(cpu_ticks "$n"); done
	sleep 10
	uptime_ms; t1=$REPLY
	for n in $(lab_all); do
		sample idle.cpu_percent % "$(awk -v t=$(($(cpu_ticks "$n") - ticks[$n])) -v hz="$hz" -v ms=$((t1 - t0)) \
			'BEGIN {printf "%.2f", 100 * t / hz / (ms / 1000)}')"
		# shellcheck disable=SC2016 # expanded inside the node
		sample idle.rss_mib MiB "$(on "$n" sh -c 'awk "/^VmRSS/ {printf \"%.1f\", \$2 / 1024}" "/proc/$(cat /run/lab/vmpaird.pid)/status"')"
	done
done
