# SPDX-License-Identifier: GPL-2.0-or-later
# Tools of the lab. The lab itself is driven by run.sh and tests/lab/lab.sh; here is what can be compiled.
noinst_PROGRAMS += tests/lab/nodeinit tests/lab/probe
check_PROGRAMS += tests/lab/bindcheck tests/lab/hurt tests/lab/history tests/lab/entrywatch
# the daemons' side and the clients of bench/relay.sh
noinst_PROGRAMS += tests/lab/relaydrive tests/lab/crowd
tests_lab_relaydrive_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS)
tests_lab_relaydrive_LDADD = $(JANSSON_LIBS)
tests_lab_entrywatch_LDADD = libvmpaird.la
tests_lab_entrywatch_LDFLAGS = $(AM_LDFLAGS) -Wl,--as-needed
tests_lab_history_SOURCES = %D%/apps/history.c

# The daemon with faults that can be switched on: to see the checks of the lab fail.
check_PROGRAMS += tests/lab/vmpaird-faulty
tests_lab_vmpaird_faulty_SOURCES = daemon/main.c tests/lab/faulty.c
tests_lab_vmpaird_faulty_CFLAGS = $(vmpaird_CFLAGS)
tests_lab_vmpaird_faulty_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=vmp_core_step,--wrap=vmp_core_lease_end,--wrap=vmp_gate_refresh
tests_lab_vmpaird_faulty_LDADD = $(vmpaird_LDADD)

# Preloaded, so not what libtool makes by itself.
check_DATA = tests/lab/wallclock.so
CLEANFILES += tests/lab/wallclock.so
EXTRA_DIST += %D%/wallclock.c
tests/lab/wallclock.so: %D%/wallclock.c
	$(AM_V_CC)$(MKDIR_P) tests/lab && $(CC) -O2 -Wall -Wextra -Werror -shared -fPIC -o $@ $(srcdir)/%D%/wallclock.c

dist_check_SCRIPTS += %D%/test-bindcheck.sh
TESTS += %D%/test-bindcheck.sh

EXTRA_DIST += \
	%D%/apps/bank.c \
	%D%/apps/apps-state \
	%D%/apps/bank-state \
	%D%/history.sh \
	%D%/bench \
	%D%/faults \
	%D%/t \
	%D%/fence_lab \
	%D%/faults.sh \
	%D%/faults-others.sh \
	%D%/bench.sh \
	%D%/demo.sh \
	%D%/lab.sh \
	%D%/lib.sh \
	%D%/node.sh \
	%D%/ops.sh \
	%D%/pair.sh \
	%D%/run-tests.sh \
	%D%/trigger.sh \
	%D%/guest/domain.xml.in \
	%D%/guest/init \
	%D%/guest/mkimage.sh \
	%D%/guest/svc.c
