# SPDX-License-Identifier: GPL-2.0-or-later
# Runs inside guests, and needs nothing but libc.
sbin_PROGRAMS += vmpair-guest
vmpair_guest_SOURCES = %D%/vmpair-guest.c
vmpair_guest_LDFLAGS = $(AM_LDFLAGS) -Wl,--as-needed
EXTRA_DIST += %D%/vmpair-guest.service.in
CLEANFILES += vmpair-guest.service
systemdsystemunit_DATA += vmpair-guest.service
vmpair-guest.service: %D%/vmpair-guest.service.in Makefile
	$(AM_V_GEN)sed -e 's|@sbindir[@]|$(sbindir)|g' $(srcdir)/%D%/vmpair-guest.service.in > $@.tmp && mv $@.tmp $@
