# SPDX-License-Identifier: GPL-2.0-or-later
# OCF agents: small programs that need jansson only, so that a monitor takes a millisecond or two.
agentdir = $(ocfdir)/vmpair
agent_PROGRAMS = %D%/pair
%C%_pair_SOURCES = %D%/pair.c %D%/ocf.c %D%/ocf.h %D%/xmltext.h daemon/gate_pins.c daemon/tcbpf.c
%C%_pair_CPPFLAGS = $(AM_CPPFLAGS) -include config.h
%C%_pair_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS)
%C%_pair_LDADD = libvmpctl.la $(JANSSON_LIBS)

# Fencing: a fence agent, where Pacemaker looks for them.
sbin_PROGRAMS += %D%/fence_vmpair
%C%_fence_vmpair_SOURCES = %D%/fence_vmpair.c %D%/xmltext.h
%C%_fence_vmpair_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS)
%C%_fence_vmpair_LDADD = libvmpctl.la $(JANSSON_LIBS)
