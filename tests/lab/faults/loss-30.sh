# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# serves: no
# title: 30 % of the packets lost on the cluster network
# third: yes
inject() { lossy 30; keep_for 8; }
mend() { unlossy; wait_for 60 lab_healthy; }
