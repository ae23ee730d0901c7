#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# One pair, by pcs. The values can be given in the environment; what each does: ocf_vmpair_pair(7).
set -e
: "${PCS:=pcs}"                                    # "pcs -f FILE" works on a file instead of the running cluster
: "${PAIR:=web}"                                   # name of the pair and of the resource
: "${DOMAIN:=/etc/vmpair/$PAIR.xml}"               # libvirt XML, the same file on all nodes
: "${ENTRY:=192.0.2.10/24}"                        # the address that clients know
: "${ENTRY_NIC:=br-entry}"                         # host bridge of the entry network
: "${INTERNAL_NET:=192.168.77.0/24@br-int}"        # network between the members
: "${READY:=http:80/}"                             # when a member may become primary
: "${STONITH:=true}"                               # true needs fencing devices, which are not part of this example

# A primary in a minority is demoted but not stopped: the same rule as that of vmpaird's lease. A failed start is tried again.
$PCS property set no-quorum-policy=demote start-failure-is-fatal=false stonith-enabled="$STONITH" fence-reaction=panic

# The two monitors must differ in their interval. Notifications would only delay a change of roles.
$PCS resource create "$PAIR" ocf:vmpair:pair \
	pair="$PAIR" domain="$DOMAIN" entry="$ENTRY" entry_nic="$ENTRY_NIC" internal_net="$INTERNAL_NET" ready="$READY" \
	op monitor interval=10s timeout=20s role=Promoted on-fail=demote \
	monitor interval=11s timeout=20s role=Unpromoted \
	start timeout=120s stop timeout=90s promote timeout=30s demote timeout=30s reload-agent timeout=20s \
	meta migration-threshold=3 failure-timeout=120s resource-stickiness=100 \
	promotable promoted-max=1 clone-max=2 clone-node-max=1 interleave=true notify=false

# Where members may run, and what goes with the primary, is said by constraints as usual:
#   pcs constraint location web-clone avoids n3
#   pcs constraint colocation add report with Promoted web-clone
#   pcs constraint order promote web-clone then start report
# Do not put the entry address under Pacemaker (IPaddr2): vmpaird alone moves it.
# Everyday work: vmpair switchover web; pcs resource move web-clone --promoted; pcs resource update web entry=...  (live)
