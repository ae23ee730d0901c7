# SPDX-License-Identifier: GPL-2.0-or-later
# Two real relays against real sockets in a network namespace; needs root (else skipped).
check_PROGRAMS += tests/relay/test_relay tests/relay/vmpair-relay-faulty
TESTS += tests/relay/test_relay
tests_relay_test_relay_SOURCES = tests/relay/test_relay.c tests/relay/world.c tests/relay/world.h
tests_relay_test_relay_CPPFLAGS = $(TEST_CPPFLAGS)
tests_relay_test_relay_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS)
tests_relay_test_relay_LDADD = libvmpframe.la $(JANSSON_LIBS) -lpthread
tests_relay_vmpair_relay_faulty_SOURCES = $(VMP_RELAY_SOURCES) tests/relay/faulty.c
tests_relay_vmpair_relay_faulty_CFLAGS = $(vmpair_relay_CFLAGS)
tests_relay_vmpair_relay_faulty_LDFLAGS = $(AM_LDFLAGS) -Wl,--as-needed -Wl,--wrap=vmpair_session_leave_limit
tests_relay_vmpair_relay_faulty_LDADD = $(vmpair_relay_LDADD)
