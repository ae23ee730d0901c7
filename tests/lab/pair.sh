# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What demo, bench and tests do with pairs in the lab: make them as an operator would, look at them, load them, hurt them.
# Source lib.sh first.

# --- making and looking ------------------------------------------------------------------------------------------------

PAIR_PARAMS=()
PAIR_SECOND= # a second IPv4 address of the entry, without prefix
pair_create() { # pair_create NUMBER [NODE]: pair pN by pcs, from NODE (n1); extra parameters in the array PAIR_PARAMS
	local i=$1 node=${2:-n1}
	on "$node" pcs resource create "p$i" ocf:vmpair:pair pair="p$i" domain="/etc/vmpair/p$i.xml" \
		entry="${LAB_ENTRY[i - 1]}/24,${LAB_ENTRY6[i - 1]}/64${PAIR_SECOND:+,$PAIR_SECOND/24}" entry_nic=br-entry \
		internal_net="$(pair_net "$i")/24@br-int" ready=http:80/ stop_timeout=1s "${PAIR_PARAMS[@]}" \
		op monitor interval=10s timeout=20s role=Promoted on-fail=demote \
		op monitor interval=11s timeout=20s role=Unpromoted \
		op start timeout=120s op stop timeout=90s op promote timeout=30s op demote timeout=30s \
		promotable promoted-max=1 clone-max=2 clone-node-max=1 interleave=true notify=false \
		meta migration-threshold=3 failure-timeout=120s > "$LAB_DIR/pcs.log" 2>&1 || {
		cat "$LAB_DIR/pcs.log" >&2
		return 1
	}
}
pair_apps() { # pair_apps NUMBER APPS [STORE]: before pair_create: its guests run these as well (bank,redis,relay)
	local n
	for n in $(lab_all); do
		lab_domain_apps "p$1" "${LAB_ENTRY_MAC[$1 - 1]}" "$2" ${3+"$3"} > "$LAB_DIR/$n/etc/vmpair/p$1.xml"
		install -m 755 "$LAB_SRC"/apps/{bank,apps}-state "$LAB_DIR/$n/etc/vmpair/"
	done
}
pair_keepalived_conf() { # pair_keepalived_conf NODE NUMBER: what vmpair-keepalived(7) gives, for pair pNUMBER
	local second=/192.0.2.11/d
	[ -z "$PAIR_SECOND" ] || second="s|192.0.2.11/32|$PAIR_SECOND/32|"
	sed -e "$second" -e "s/web/p$2/g; s|192.0.2.10/32|${LAB_ENTRY[$2 - 1]}/32|; s|2001:db8::10/64|${LAB_ENTRY6[$2 - 1]}/64|" \
		-e "s/virtual_router_id .*/virtual_router_id 77/; s/router_id .*HOST/router_id $1/" "$LAB_TOP/cib-examples/keepalived.conf"
}
pair_net() { echo "192.168.$((76 + $1)).0"; }
pair_status() { # pair_status NODE PAIR: the pair's object, empty when that node does not know it
	on "$1" timeout 5 vmpair status --output=json "$2" 2> /dev/null | jq -c '.pairs[0] // empty'
}
a_node() { # a node that is on and not cut off: where to ask (ASK overrides)
	local n
	if [ -n "${ASK-}" ]; then
		echo "$ASK"
		return
	fi
	for n in $(lab_all); do
		if daemon running "$n" corosync 2> /dev/null && ! is_cut "$n"; then
			echo "$n"
			return
		fi
	done
	return 1
}
is_cut() { in_switch nft list set bridge lab cut | find_line "\"$1c\""; }
pair_primary() { pair_status "$(a_node)" "$1" | jq -r '.holder // empty'; }
pair_standby() { pair_status "$(a_node)" "$1" | jq -r '.sync // empty'; }
pcmk_promoted() { # pcmk_promoted PAIR [NODE]: node where Pacemaker shows the pair Promoted, nothing if there is none
	{ on "${2:-$(a_node)}" crm_mon -1 --output-as=xml 2> /dev/null || true; } | awk -v r="\"$1\"" '
		index($0, "<resource id=" r) && /role="(Promoted|Master)"/ {found = 1}
		found && /<node name=/ {match($0, /name="[^"]*"/); print substr($0, RSTART + 6, RLENGTH - 7); found = 0}'
}
pcmk_unpromoted() { # pcmk_unpromoted PAIR [NODE]: nodes where Pacemaker shows it Unpromoted
	on "${2:-$(a_node)}" crm_mon -1 --output-as=xml 2> /dev/null | awk -v r="\"$1\"" '
		/<resource / {found = index($0, "<resource id=" r) && /role="(Unpromoted|Slave)"/}
		found && /<node name=/ {match($0, /name="[^"]*"/); print substr($0, RSTART + 6, RLENGTH - 7); found = 0}'
}
pair_whole() { # pair_whole PAIR: primary with an open entry, in-sync standby, both ready, and Pacemaker says the same
	local s node promoted unpromoted
	node=$(a_node) || return 1
	s=$(pair_status "$node" "$1")
	[ -n "$s" ] || return 1
	promoted=$(pcmk_promoted "$1" "$node")
	unpromoted=$(pcmk_unpromoted "$1" "$node")
	jq -e --arg p "$promoted" --arg u "$unpromoted" '.holder == $p and .sync == $u and .sync != null and .sync != .holder and .entry_open and .mode == "sync"
		and ([.members[] | select(.running and .ready)] | length) == 2' <<< "$s" > /dev/null || {
		echo "Pacemaker says: $promoted and $unpromoted; vmpair says: $s"
		return 1
	}
}
pair_epoch() { pair_status "$(a_node)" "$1" | jq -r '.epoch // empty'; }
in_guest() { # in_guest NODE VERB: done by the service in p1's guest there, over the internal net; see guest/svc.c. What follows shows that it was
	local address
	address=$(pair_status "$1" p1 | jq -r --arg n "$1" '.members[] | select(.node == $n).internal')
	on "$1" curl -s --max-time 5 -o /dev/null "http://${address%/*}/ctl/$2" || log "no answer from the guest at $address"
}
cluster_says() { # cluster_says NODE KEY VALUE: of "cluster" in the status of NODE, e.g. n1 libvirt up
	[ "$(on "$1" timeout 5 vmpair status --output=json 2> /dev/null | jq -r ".cluster.$2")" = "$3" ]
}
refused() { # refused NODE FROM [CAUSE]: datagrams of node FROM that NODE has refused; FROM = NODE: of nobody we know
	on "$1" timeout 5 vmpair status --output=json | jq -r --arg n "$2" --arg c "${3-}" \
		'.nodes[] | select(.name == $n) | if $c == "" then .refused else .refused_causes[$c] // 0 end'
}
refused_more() { [ "$(refused "$1" "$2" "$4")" -gt "$3" ]; } # refused_more NODE FROM COUNT CAUSE
events_count() { # events_count NODE PAIR WHAT: how often that node has seen this ("-": of the node itself)
	awk -v p="\"pair\":[ ]*\"${2#-}\"" -v w="\"what\":[ ]*\"$3\"" '$0 ~ p && $0 ~ w' "$LAB_DIR/$1/var/log/vmpair/events.jsonl" | wc -l
}
events_more() { [ "$(events_count "$1" "$2" "$3")" -gt "$4" ]; }
pair_known() { [ -n "$(pair_status "$(a_node)" "$1")" ]; }

# --- events of demo and bench: each sets new_primary, agreed_ms (from the event), event_t0 (ms) ------------------------------

event_begin() { # event_begin PAIR NAME
	old_primary=$(pair_primary "$1")
	[ -n "$old_primary" ] || fail "$2: $1 has no primary"
	probe_mark "$2"
	uptime_ms
	event_t0=$REPLY
}
event_agreed() { # event_agreed PAIR SECONDS: waits until Pacemaker shows another node Promoted, and vmpair the same one
	local end node
	node=$(a_node)
	end=$((event_t0 + $2 * 1000))
	while :; do
		new_primary=$(pcmk_promoted "$1" "$node") || true
		uptime_ms
		if [ -n "$new_primary" ] && [ "$new_primary" != "$old_primary" ]; then
			# shellcheck disable=SC2034 # for the caller
			agreed_ms=$((REPLY - event_t0))
			break
		fi
		[ "$REPLY" -lt "$end" ] || fail "Pacemaker shows ${new_primary:-nobody} Promoted for $1 after $2 s"
		sleep 0.02
	done
	wait_for 5 pair_holder_is "$1" "$new_primary" || fail "vmpair and Pacemaker disagree about $1"
}
pair_holder_is() { [ "$(pair_primary "$1")" = "$2" ]; }
event_vm_kill() {
	local pid
	pid=$(vm_pid "$(pair_primary "$1")" "$1")
	event_begin "$1" "$2"
	on "$old_primary" kill -KILL "$pid"
	event_agreed "$1" 20
}
event_node_cut() { # the node stays cut off; heal brings it back
	event_begin "$1" "$2"
	cut_off "$old_primary"
	event_agreed "$1" 30
}
event_switchover() {
	event_begin "$1" "$2"
	on "$(a_node)" vmpair switchover "$1" > "$LAB_DIR/switchover.log" 2>&1 || fail "switchover: $(cat "$LAB_DIR/switchover.log")"
	event_agreed "$1" 20
}
event_pcs_move() {
	local to
	to=$(pair_standby "$1")
	event_begin "$1" "$2"
	# pcs returns when it has taken its constraint back: look meanwhile
	on "$(a_node)" pcs resource move "$1-clone" "$to" --promoted > "$LAB_DIR/pcs.log" 2>&1 &
	event_agreed "$1" 20
	wait $! || fail "pcs move: $(cat "$LAB_DIR/pcs.log")"
	# pcs takes seconds before it changes anything: count from Pacemaker's demote to its promote
	# shellcheck disable=SC2034 # for the caller
	agreed_ms=$(on "$new_primary" vmpair why --output=json "$1" | jq '[.events[] | select(.what == "agreed")][-1].t_ms | round')
}
