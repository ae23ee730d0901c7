# SPDX-License-Identifier: GPL-2.0-or-later
# Tools of the lab. The lab itself is driven by run.sh and tests/lab/lab.sh; here is what can be compiled.
noinst_PROGRAMS += tests/lab/nodeinit tests/lab/probe
check_PROGRAMS += tests/lab/bindcheck tests/lab/hurt tests/lab/history
# the daemons' side and the clients of bench/relay.sh
noinst_PROGRAMS += tests/lab/relaydrive tests/lab/crowd
tests_lab_relaydrive_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS)
tests_lab_relaydrive_LDADD = $(JANSSON_LIBS)
tests_lab_history_SOURCES = %D%/apps/history.c

# The daemon with faults that can be switched on: to see the checks of the lab fail.
check_PROGRAMS += tests/lab/vmpaird-faulty
tests_lab_vmpaird_faulty_SOURCES = daemon/main.c tests/lab/faulty.c
tests_lab_vmpaird_faulty_CFLAGS = $(vmpaird_CFLAGS)
tests_lab_vmpaird_faulty_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=vmp_core_step,--wrap=vmp_core_lease_end,--wrap=vmp_gate_refresh
tests_lab_vmpaird_faulty_LDADD = $(vmpaird_LDADD)

dist_check_SCRIPTS += %D%/test-bindcheck.sh
TESTS += %D%/test-bindcheck.sh

EXTRA_DIST += \
	%D%/apps/bank.c \
	%D%/apps/apps-state \
	%D%/apps/bank-state \
	%D%/history.sh \
	%D%/faults.sh \
	%D%/faults/corosync-kill-primary.sh \
	%D%/faults/cpu-starved.sh \
	%D%/faults/disk-full-run.sh \
	%D%/faults/libvirtd-kill-primary.sh \
	%D%/faults/loss-30.sh \
	%D%/faults/loss-70.sh \
	%D%/faults/node-cut-primary.sh \
	%D%/faults/node-kill-primary.sh \
	%D%/faults/node-kill-standby.sh \
	%D%/faults/oneway-from-primary.sh \
	%D%/faults/oneway-to-primary.sh \
	%D%/faults/pacemaker-kill-primary.sh \
	%D%/faults/partition-all.sh \
	%D%/faults/partition-primary-alone.sh \
	%D%/faults/partition-standby-alone.sh \
	%D%/faults/switchover-storm.sh \
	%D%/faults/two-vms.sh \
	%D%/faults/vm-and-node.sh \
	%D%/faults/vm-freeze-standby.sh \
	%D%/faults/vm-kill-primary.sh \
	%D%/faults/vm-kill-standby.sh \
	%D%/faults/vmpaird-freeze-primary.sh \
	%D%/faults/vmpaird-freeze-standby.sh \
	%D%/faults/vmpaird-kill-primary.sh \
	%D%/faults/vmpaird-kill-standby.sh \
	%D%/faults/vmpaird-restart-primary.sh \
	%D%/faults/vmpaird-restart-standby.sh \
	%D%/bench.sh \
	%D%/bench/vmpair.sh \
	%D%/bench/session.sh \
	%D%/bench/idle.sh \
	%D%/bench/ipaddr2.sh \
	%D%/bench/keepalived.sh \
	%D%/bench/lib.sh \
	%D%/bench/relay.sh \
	%D%/bench/virtualdomain.sh \
	%D%/demo.sh \
	%D%/lab.sh \
	%D%/lib.sh \
	%D%/node.sh \
	%D%/ops.sh \
	%D%/pair.sh \
	%D%/run-tests.sh \
	%D%/t/bad-input.sh \
	%D%/t/cib-examples.sh \
	%D%/t/daemons.sh \
	%D%/t/gate-faults.sh \
	%D%/t/lab.sh \
	%D%/t/network.sh \
	%D%/t/ocf-tester.sh \
	%D%/t/history-journal.sh \
	%D%/t/history-mirror.sh \
	%D%/t/live.sh \
	%D%/t/members.sh \
	%D%/t/operate.sh \
	%D%/t/reboots.sh \
	%D%/t/voters.sh %D%/t/witness.sh \
	%D%/guest/domain.xml.in \
	%D%/guest/init \
	%D%/guest/mkimage.sh \
	%D%/guest/svc.c
