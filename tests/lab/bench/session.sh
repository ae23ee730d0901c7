#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# libvmpair alone on one core: records of 200 bytes with an id encoded and decoded; a whole request through a primary's and a standby's
# session in one process (four records, and confirmations). CPU time, so that a busy machine does not show.
# metrics: session.records_per_s session.request_ns
# lab: no
# shellcheck source-path=SCRIPTDIR source=lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

"$LAB_BUILD/tests/bench/session_bench" --runs "$RUNS" | while read -r metric unit value; do
	if wanted "$metric"; then sample "$metric" "$unit" "$value"; fi
done
