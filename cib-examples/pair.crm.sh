#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# One pair, by crm (crmsh). The values can be given in the environment; what each does: ocf_vmpair_pair(7).
set -e
: "${CRM:=crm}"
: "${PAIR:=web}"                                   # name of the pair and of the resource
: "${DOMAIN:=/etc/vmpair/$PAIR.xml}"               # libvirt XML, the same file on all nodes
: "${ENTRY:=192.0.2.10/24}"                        # the address that clients know
: "${ENTRY_NIC:=br-entry}"                         # host bridge of the entry network
: "${INTERNAL_NET:=192.168.77.0/24@br-int}"        # network between the members
: "${READY:=http:80/}"                             # when a member may become primary
: "${STONITH:=true}"                               # true needs fencing devices, which are not part of this example

# A primary in a minority is demoted but not stopped: the same rule as that of vmpaird's lease. A failed start is tried again.
# The two monitors must differ in their interval. Notifications would only delay a change of roles.
$CRM configure load update - <<END
property no-quorum-policy=demote start-failure-is-fatal=false stonith-enabled=$STONITH fence-reaction=panic
primitive $PAIR ocf:vmpair:pair \\
	params pair="$PAIR" domain="$DOMAIN" entry="$ENTRY" entry_nic="$ENTRY_NIC" internal_net="$INTERNAL_NET" ready="$READY" \\
	op monitor interval=10s timeout=20s role=Promoted on-fail=demote \\
	op monitor interval=11s timeout=20s role=Unpromoted \\
	op start timeout=120s interval=0s op stop timeout=90s interval=0s \\
	op promote timeout=30s interval=0s op demote timeout=30s interval=0s \\
	op reload-agent timeout=20s interval=0s \\
	meta migration-threshold=3 failure-timeout=120s resource-stickiness=100
clone $PAIR-clone $PAIR \\
	meta promotable=true promoted-max=1 clone-max=2 clone-node-max=1 interleave=true notify=false
END

# Where members may run, and what goes with the primary, is said by constraints as usual:
#   crm configure location web-not-on-n3 web-clone -inf: n3
#   crm configure colocation report-with-web inf: report web-clone:Promoted
#   crm configure order web-then-report Mandatory: web-clone:promote report:start
# Do not put the entry address under Pacemaker (IPaddr2): vmpaird alone moves it.
