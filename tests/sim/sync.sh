#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Two sessions under random schedules from fixed seeds (VMP_SYNC_RUNS, VMP_SYNC_SEED for more or other ones), and the proof that the
# simulator can fail: each wrong variant of the session is switched on in a test build and has to be caught.
set -e
./tests/sim/sync --runs "${VMP_SYNC_RUNS:-10000}" --seed "${VMP_SYNC_SEED:-1}"
exec ./tests/sim/sync-bugs --all-bugs --runs "${VMP_SYNC_BUG_RUNS:-20000}"
