# shellcheck shell=bash disable=SC2034,SC2154,SC2317
# SPDX-License-Identifier: GPL-2.0-or-later
# title: Pacemaker killed on the primary's node, started again
# The others' Pacemaker takes that node for lost until it is back: it may have asked another one to take over by then.
inject() { was=$holder; daemon kill "$was" pacemaker; daemon start "$was" pacemaker; }
mend() { :; }
