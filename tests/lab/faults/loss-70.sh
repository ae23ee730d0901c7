# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# serves: no
# title: 70 % of the packets lost on the cluster network for 5 s
inject() { lossy 70; keep_for 5; }
mend() { unlossy; wait_for 60 lab_healthy; }
