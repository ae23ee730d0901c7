# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: 8 busy processes beside everything for 8 s
# moves: no
inject() { keep_busy 8 8; }
mend() { :; }
