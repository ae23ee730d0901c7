#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# As vmpair.sh, in entry mode host: the primary's host carries the entry addresses.
# metrics: failover.vm_kill.vmpair_host failover.switchover.vmpair_host failover.node_cut.vmpair_host
# limits: failover.vm_kill.vmpair_host:median:60 failover.switchover.vmpair_host:median:30 failover.node_cut.vmpair_host:median:250
ENTRY_MODE=host
# shellcheck source-path=SCRIPTDIR source=vmpair.sh
. "$(dirname "${BASH_SOURCE[0]}")/vmpair.sh"
