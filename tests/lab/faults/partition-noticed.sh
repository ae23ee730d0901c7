# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: cluster network parted: primary, third node | standby; healed as soon as corosync has noticed
# moves: no
# The memberships merge before Pacemaker has stopped the member that has retired meanwhile: it must not count three of them.
# Whether this run had three of them is luck: the log tells.
inject() {
	was=$standby surplus=$(events_count "$was" p1 surplus) forgot=$(forgotten) most=$LAB_DIR/instances
	: > "$most"
	cut_off "$was" "c"
	wait_for 30 cluster_says "$was" quorate false
	heal
	wait_for 60 healthy_counted
}
mend() {
	wait_for 120 whole_counted
	log "window: Pacemaker showed $(sort -n "$most" | tail -n 1) members at most; $was retired a member $(($(events_count "$was" p1 surplus) - surplus)) times," \
		"had it forgotten by Pacemaker $(($(forgotten) - forgot)) times"
}
forgotten() { jq -c 'select(.pair == "p1" and .what == "cleaned" and (.text | test("has forgotten")))' "$LAB_DIR/$was/var/log/vmpair/events.jsonl" | wc -l; }
counted() { { pcmk_promoted p1 "$1"; pcmk_unpromoted p1 "$1"; } | wc -l >> "$most"; }
healthy_counted() {
	counted "$holder"
	lab_healthy
}
whole_counted() {
	counted "$holder"
	pair_whole p1
}
