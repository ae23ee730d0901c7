# SPDX-License-Identifier: GPL-2.0-or-later
# The relay also runs inside guests: it needs GnuTLS, jansson and libc, and nothing of the daemon but the files named here.
sbin_PROGRAMS += vmpair-relay
VMP_RELAY_SOURCES = \
	%D%/backend.c \
	%D%/buf.c %D%/buf.h \
	%D%/client.c \
	%D%/ctl.c %D%/ctl.h \
	%D%/ev.c %D%/ev.h \
	%D%/hook.c \
	%D%/link.c %D%/link.h \
	%D%/live.c %D%/live.h \
	%D%/main.c \
	%D%/relay.c %D%/relay.h \
	%D%/tickle.c \
	daemon/diag.c daemon/keys.c daemon/log.c daemon/seal.c daemon/tickle.c
vmpair_relay_SOURCES = $(VMP_RELAY_SOURCES)
vmpair_relay_CFLAGS = $(AM_CFLAGS) $(GNUTLS_CFLAGS) $(JANSSON_CFLAGS)
vmpair_relay_LDFLAGS = $(AM_LDFLAGS) -Wl,--as-needed
vmpair_relay_LDADD = libvmpframe.la libvmpair.a $(GNUTLS_LIBS) $(JANSSON_LIBS) -lpthread
