# SPDX-License-Identifier: GPL-2.0-or-later
# Every program in TESTS prints TAP or exits 0 (pass), 77 (skip), other (fail). A unit test file is tests/unit/test_MODULE.c.
TEST_CPPFLAGS = $(AM_CPPFLAGS) -UNDEBUG
TEST_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS) $(libvmpaird_la_CFLAGS)

# --- core, simulator, traces ---
check_PROGRAMS += tests/sim/sim tests/sim/sim-bugs
tests_sim_sim_SOURCES = tests/sim/sim.c
tests_sim_sim_LDADD = libvmpcore.la
# the wrong variants exist only in this build of the core
tests_sim_sim_bugs_SOURCES = tests/sim/sim.c $(VMP_CORE_SOURCES)
tests_sim_sim_bugs_CPPFLAGS = $(AM_CPPFLAGS) -DVMP_CORE_BUGS
dist_check_SCRIPTS += tests/sim/random.sh tests/sim/bugs.sh tests/check-purity.sh tests/trace/golden.sh
TESTS += tests/sim/random.sh tests/sim/bugs.sh tests/check-purity.sh tests/trace/golden.sh
dist_check_SCRIPTS += tests/spin/spin.sh
TESTS += tests/spin/spin.sh
EXTRA_DIST += tests/sim/soak.sh tests/spin/README tests/spin/harness.c tests/spin/harness.h tests/spin/model.pml
if UNIT_TESTS
check_PROGRAMS += tests/unit/test_core tests/unit/test_core_bugs
TESTS += tests/unit/test_core tests/unit/core-directed.sh
dist_check_SCRIPTS += tests/unit/core-directed.sh
tests_unit_test_core_SOURCES = tests/unit/test_core.c tests/trace/world.h
tests_unit_test_core_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_core_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_core_LDADD = libvmpcore.la $(CMOCKA_LIBS)
tests_unit_test_core_bugs_SOURCES = tests/unit/test_core.c tests/trace/world.h $(VMP_CORE_SOURCES)
tests_unit_test_core_bugs_CPPFLAGS = $(TEST_CPPFLAGS) -DVMP_CORE_BUGS
tests_unit_test_core_bugs_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_core_bugs_LDADD = $(CMOCKA_LIBS)
endif
check_PROGRAMS += tests/trace/trace
tests_trace_trace_SOURCES = tests/trace/trace.c tests/trace/world.h
tests_trace_trace_LDADD = libvmpcore.la
EXTRA_DIST += tests/trace/demote.txt tests/trace/first-start.txt tests/trace/frozen.txt tests/trace/hold-again.txt tests/trace/hold-restart.txt \
	tests/trace/deaf-primary.txt tests/trace/fence.txt tests/trace/fence-reachable.txt \
	tests/trace/node-cut.txt tests/trace/reboot.txt tests/trace/switchover.txt \
	tests/trace/two-voters.txt tests/trace/two-voters-old-epoch.txt tests/trace/vm-exit.txt tests/trace/voter-add.txt tests/trace/voter-finish.txt \
	tests/trace/voter-remove.txt


# --- libvmpair ---
if UNIT_TESTS
SYNC_UNIT_TESTS = %D%/unit/test_record %D%/unit/test_role %D%/unit/test_session
check_PROGRAMS += $(SYNC_UNIT_TESTS)
TESTS += $(SYNC_UNIT_TESTS)
%C%_unit_test_record_SOURCES = %D%/unit/test_record.c
%C%_unit_test_record_CPPFLAGS = $(TEST_CPPFLAGS)
%C%_unit_test_record_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
%C%_unit_test_record_LDADD = libvmpair.a $(CMOCKA_LIBS)
%C%_unit_test_role_SOURCES = %D%/unit/test_role.c %D%/unit/testdir.h
%C%_unit_test_role_CPPFLAGS = $(TEST_CPPFLAGS)
%C%_unit_test_role_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
%C%_unit_test_role_LDADD = libvmpair.a libvmpaird.la $(CMOCKA_LIBS)
%C%_unit_test_session_SOURCES = %D%/unit/test_session.c
%C%_unit_test_session_CPPFLAGS = $(TEST_CPPFLAGS)
%C%_unit_test_session_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
%C%_unit_test_session_LDADD = libvmpair.a $(CMOCKA_LIBS)
endif
check_PROGRAMS += %D%/sim/sync %D%/sim/sync-bugs
%C%_sim_sync_SOURCES = %D%/sim/sync.c
%C%_sim_sync_LDADD = libvmpair.a
# the wrong variants exist only in this build of the session
%C%_sim_sync_bugs_SOURCES = %D%/sim/sync.c $(VMPAIR_LIB_SOURCES)
%C%_sim_sync_bugs_CPPFLAGS = $(AM_CPPFLAGS) -DVMPAIR_BUGS
dist_check_SCRIPTS += %D%/sim/sync.sh %D%/check-examples.sh %D%/check-libvmpair.sh
TESTS += %D%/sim/sync.sh %D%/check-examples.sh %D%/check-libvmpair.sh
check_PROGRAMS += %D%/bench/session_bench %D%/fuzz/replay_record %D%/fuzz/replay_session
TESTS += %D%/fuzz/replay_record %D%/fuzz/replay_session
%C%_bench_session_bench_SOURCES = %D%/bench/session_bench.c
%C%_bench_session_bench_LDADD = libvmpair.a
%C%_fuzz_replay_record_SOURCES = %D%/fuzz/replay.c %D%/fuzz/fuzz_record.c %D%/fuzz/fuzz.h
%C%_fuzz_replay_record_CPPFLAGS = $(TEST_CPPFLAGS) -DFUZZ_NAME='"record"'
%C%_fuzz_replay_record_LDADD = libvmpair.a
%C%_fuzz_replay_session_SOURCES = %D%/fuzz/replay.c %D%/fuzz/fuzz_session.c %D%/fuzz/fuzz.h
%C%_fuzz_replay_session_CPPFLAGS = $(TEST_CPPFLAGS) -DFUZZ_NAME='"session"'
%C%_fuzz_replay_session_LDADD = libvmpair.a
if FUZZERS
noinst_PROGRAMS += %D%/fuzz/fuzz_record %D%/fuzz/fuzz_session
%C%_fuzz_fuzz_record_SOURCES = %D%/fuzz/fuzz_record.c %D%/fuzz/fuzz.h $(VMPAIR_LIB_SOURCES)
%C%_fuzz_fuzz_record_CPPFLAGS = $(TEST_CPPFLAGS)
%C%_fuzz_fuzz_record_CFLAGS = $(WARN_CFLAGS) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all
%C%_fuzz_fuzz_record_LDFLAGS = -fsanitize=fuzzer,address,undefined
%C%_fuzz_fuzz_session_SOURCES = %D%/fuzz/fuzz_session.c %D%/fuzz/fuzz.h $(VMPAIR_LIB_SOURCES)
%C%_fuzz_fuzz_session_CPPFLAGS = $(TEST_CPPFLAGS)
%C%_fuzz_fuzz_session_CFLAGS = $(WARN_CFLAGS) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all
%C%_fuzz_fuzz_session_LDFLAGS = -fsanitize=fuzzer,address,undefined
endif


# --- network, configuration, persistence ---
if UNIT_TESTS
check_PROGRAMS += tests/unit/test_conf
TESTS += tests/unit/test_conf
tests_unit_test_conf_SOURCES = tests/unit/test_conf.c tests/unit/testdir.h
tests_unit_test_conf_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_conf_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_conf_LDADD = libvmpaird.la $(CMOCKA_LIBS)
check_PROGRAMS += tests/unit/test_keys
TESTS += tests/unit/test_keys
tests_unit_test_keys_SOURCES = tests/unit/test_keys.c tests/unit/testdir.h
tests_unit_test_keys_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_keys_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_keys_LDADD = libvmpaird.la $(CMOCKA_LIBS)
check_PROGRAMS += tests/unit/test_seal
TESTS += tests/unit/test_seal
tests_unit_test_seal_SOURCES = tests/unit/test_seal.c
tests_unit_test_seal_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_seal_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_seal_LDADD = libvmpaird.la $(CMOCKA_LIBS)
check_PROGRAMS += tests/unit/test_wire
TESTS += tests/unit/test_wire
tests_unit_test_wire_SOURCES = tests/unit/test_wire.c tests/unit/msggen.h
tests_unit_test_wire_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_wire_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_wire_LDADD = libvmpaird.la $(CMOCKA_LIBS)
check_PROGRAMS += tests/unit/test_net
TESTS += tests/unit/test_net
tests_unit_test_net_SOURCES = tests/unit/test_net.c tests/unit/msggen.h
tests_unit_test_net_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_net_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_net_LDADD = libvmpaird.la $(CMOCKA_LIBS)
check_PROGRAMS += tests/unit/test_store
TESTS += tests/unit/test_store
tests_unit_test_store_SOURCES = tests/unit/test_store.c tests/unit/msggen.h tests/unit/testdir.h
tests_unit_test_store_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_store_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_store_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=pwrite,--wrap=fdatasync
tests_unit_test_store_LDADD = libvmpaird.la $(CMOCKA_LIBS)
endif

# Fuzz targets. The replay programs run the corpus in every `make check`; --enable-fuzzers (CC=clang) builds libFuzzer's as well:
#     tests/fuzz/fuzz_seal -max_total_time=60 CORPUS-DIR SRC/tests/fuzz/corpus/seal
FUZZ_wire = daemon/wire.c
FUZZ_seal = daemon/seal.c daemon/keys.c daemon/diag.c
FUZZ_conf = daemon/conf.c daemon/keys.c daemon/diag.c
FUZZ_relaymsg = daemon/relaymsg.c
FUZZ_WORLD = tests/fuzz/fuzz.h tests/fuzz/daemonworld.h tests/unit/pollloop.c tests/unit/pollloop.h
EXTRA_DIST += tests/fuzz/corpus tests/fuzz/long.sh
check_PROGRAMS += tests/fuzz/replay_core
TESTS += tests/fuzz/replay_core
tests_fuzz_replay_core_SOURCES = tests/fuzz/replay.c tests/fuzz/fuzz_core.c tests/fuzz/fuzz.h
tests_fuzz_replay_core_CPPFLAGS = $(TEST_CPPFLAGS) -DFUZZ_NAME='"core"'
tests_fuzz_replay_core_LDADD = libvmpcore.la
if FUZZERS
noinst_PROGRAMS += tests/fuzz/fuzz_core
tests_fuzz_fuzz_core_SOURCES = tests/fuzz/fuzz_core.c tests/fuzz/fuzz.h $(VMP_CORE_SOURCES)
tests_fuzz_fuzz_core_CPPFLAGS = $(TEST_CPPFLAGS)
tests_fuzz_fuzz_core_CFLAGS = $(WARN_CFLAGS) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all
tests_fuzz_fuzz_core_LDFLAGS = -fsanitize=fuzzer,address,undefined
endif
check_PROGRAMS += tests/fuzz/replay_wire
TESTS += tests/fuzz/replay_wire
tests_fuzz_replay_wire_SOURCES = tests/fuzz/replay.c tests/fuzz/fuzz_wire.c tests/fuzz/fuzz.h
tests_fuzz_replay_wire_CPPFLAGS = $(TEST_CPPFLAGS) -DFUZZ_NAME='"wire"'
tests_fuzz_replay_wire_CFLAGS = $(TEST_CFLAGS)
tests_fuzz_replay_wire_LDADD = libvmpaird.la
check_PROGRAMS += tests/fuzz/replay_seal
TESTS += tests/fuzz/replay_seal
tests_fuzz_replay_seal_SOURCES = tests/fuzz/replay.c tests/fuzz/fuzz_seal.c tests/fuzz/fuzz.h
tests_fuzz_replay_seal_CPPFLAGS = $(TEST_CPPFLAGS) -DFUZZ_NAME='"seal"'
tests_fuzz_replay_seal_CFLAGS = $(TEST_CFLAGS)
tests_fuzz_replay_seal_LDADD = libvmpaird.la
check_PROGRAMS += tests/fuzz/replay_conf
TESTS += tests/fuzz/replay_conf
tests_fuzz_replay_conf_SOURCES = tests/fuzz/replay.c tests/fuzz/fuzz_conf.c tests/fuzz/fuzz.h
tests_fuzz_replay_conf_CPPFLAGS = $(TEST_CPPFLAGS) -DFUZZ_NAME='"conf"'
tests_fuzz_replay_conf_CFLAGS = $(TEST_CFLAGS)
tests_fuzz_replay_conf_LDADD = libvmpaird.la
check_PROGRAMS += tests/fuzz/replay_relaymsg
TESTS += tests/fuzz/replay_relaymsg
tests_fuzz_replay_relaymsg_SOURCES = tests/fuzz/replay.c tests/fuzz/fuzz_relaymsg.c tests/fuzz/fuzz.h
tests_fuzz_replay_relaymsg_CPPFLAGS = $(TEST_CPPFLAGS) -DFUZZ_NAME='"relaymsg"'
tests_fuzz_replay_relaymsg_CFLAGS = $(TEST_CFLAGS)
tests_fuzz_replay_relaymsg_LDADD = libvmpaird.la
check_PROGRAMS += tests/fuzz/replay_ctl
TESTS += tests/fuzz/replay_ctl
tests_fuzz_replay_ctl_SOURCES = tests/fuzz/replay.c tests/fuzz/fuzz_ctl.c $(FUZZ_WORLD)
tests_fuzz_replay_ctl_CPPFLAGS = $(TEST_CPPFLAGS) -DFUZZ_NAME='"ctl"'
tests_fuzz_replay_ctl_CFLAGS = $(TEST_CFLAGS)
tests_fuzz_replay_ctl_LDADD = libvmpaird.la
check_PROGRAMS += tests/fuzz/replay_group
TESTS += tests/fuzz/replay_group
tests_fuzz_replay_group_SOURCES = tests/fuzz/replay.c tests/fuzz/fuzz_group.c $(FUZZ_WORLD)
tests_fuzz_replay_group_CPPFLAGS = $(TEST_CPPFLAGS) -DFUZZ_NAME='"group"'
tests_fuzz_replay_group_CFLAGS = $(TEST_CFLAGS)
tests_fuzz_replay_group_LDADD = libvmpaird.la
if FUZZERS
noinst_PROGRAMS += tests/fuzz/fuzz_relaymsg
tests_fuzz_fuzz_relaymsg_SOURCES = tests/fuzz/fuzz_relaymsg.c tests/fuzz/fuzz.h $(FUZZ_relaymsg)
tests_fuzz_fuzz_relaymsg_CPPFLAGS = $(TEST_CPPFLAGS)
tests_fuzz_fuzz_relaymsg_CFLAGS = $(WARN_CFLAGS) $(JANSSON_CFLAGS) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all
tests_fuzz_fuzz_relaymsg_LDFLAGS = -fsanitize=fuzzer,address,undefined
tests_fuzz_fuzz_relaymsg_LDADD = libvmpcore.la libvmpctl.la $(JANSSON_LIBS)
noinst_PROGRAMS += tests/fuzz/fuzz_ctl
tests_fuzz_fuzz_ctl_SOURCES = tests/fuzz/fuzz_ctl.c $(FUZZ_WORLD) daemon/ctl.c daemon/request.c
tests_fuzz_fuzz_ctl_CPPFLAGS = $(TEST_CPPFLAGS)
tests_fuzz_fuzz_ctl_CFLAGS = $(libvmpaird_la_CFLAGS) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all
tests_fuzz_fuzz_ctl_LDFLAGS = -fsanitize=fuzzer,address,undefined
tests_fuzz_fuzz_ctl_LDADD = libvmpaird.la
noinst_PROGRAMS += tests/fuzz/fuzz_group
tests_fuzz_fuzz_group_SOURCES = tests/fuzz/fuzz_group.c $(FUZZ_WORLD) daemon/group.c daemon/request.c
tests_fuzz_fuzz_group_CPPFLAGS = $(TEST_CPPFLAGS)
tests_fuzz_fuzz_group_CFLAGS = $(libvmpaird_la_CFLAGS) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all
tests_fuzz_fuzz_group_LDFLAGS = -fsanitize=fuzzer,address,undefined
tests_fuzz_fuzz_group_LDADD = libvmpaird.la
noinst_PROGRAMS += tests/fuzz/fuzz_wire
tests_fuzz_fuzz_wire_SOURCES = tests/fuzz/fuzz_wire.c tests/fuzz/fuzz.h $(FUZZ_wire)
tests_fuzz_fuzz_wire_CPPFLAGS = $(TEST_CPPFLAGS)
tests_fuzz_fuzz_wire_CFLAGS = $(WARN_CFLAGS) $(GNUTLS_CFLAGS) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all
tests_fuzz_fuzz_wire_LDFLAGS = -fsanitize=fuzzer,address,undefined
tests_fuzz_fuzz_wire_LDADD = $(GNUTLS_LIBS)
noinst_PROGRAMS += tests/fuzz/fuzz_seal
tests_fuzz_fuzz_seal_SOURCES = tests/fuzz/fuzz_seal.c tests/fuzz/fuzz.h $(FUZZ_seal)
tests_fuzz_fuzz_seal_CPPFLAGS = $(TEST_CPPFLAGS)
tests_fuzz_fuzz_seal_CFLAGS = $(WARN_CFLAGS) $(GNUTLS_CFLAGS) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all
tests_fuzz_fuzz_seal_LDFLAGS = -fsanitize=fuzzer,address,undefined
tests_fuzz_fuzz_seal_LDADD = $(GNUTLS_LIBS)
noinst_PROGRAMS += tests/fuzz/fuzz_conf
tests_fuzz_fuzz_conf_SOURCES = tests/fuzz/fuzz_conf.c tests/fuzz/fuzz.h $(FUZZ_conf)
tests_fuzz_fuzz_conf_CPPFLAGS = $(TEST_CPPFLAGS)
tests_fuzz_fuzz_conf_CFLAGS = $(WARN_CFLAGS) $(GNUTLS_CFLAGS) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all
tests_fuzz_fuzz_conf_LDFLAGS = -fsanitize=fuzzer,address,undefined
tests_fuzz_fuzz_conf_LDADD = libvmpcore.la $(GNUTLS_LIBS)
endif

check_PROGRAMS += tests/bench/net_bench
tests_bench_net_bench_SOURCES = tests/bench/net_bench.c tests/unit/msggen.h
tests_bench_net_bench_CPPFLAGS = $(TEST_CPPFLAGS)
tests_bench_net_bench_CFLAGS = $(TEST_CFLAGS)
tests_bench_net_bench_LDADD = libvmpaird.la



# --- entry gate ---
if UNIT_TESTS
gate_tests = tests/unit/test_announce tests/unit/test_tickle tests/unit/test_gate tests/unit/test_gate_clsact tests/unit/test_gate_host \
	tests/unit/test_gate_host_clsact tests/unit/test_gate_prog
check_PROGRAMS += $(gate_tests)
TESTS += $(gate_tests)
noinst_PROGRAMS += tests/bench/gate_bench
gate_env = tests/unit/gate_env.c tests/unit/gate_env.h
tests_unit_test_tickle_SOURCES = tests/unit/test_tickle.c
tests_unit_test_tickle_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_tickle_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_tickle_LDADD = libvmpaird.la $(CMOCKA_LIBS)
tests_unit_test_announce_SOURCES = tests/unit/test_announce.c
tests_unit_test_announce_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_announce_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_announce_LDADD = libvmpaird.la $(CMOCKA_LIBS)
tests_unit_test_gate_SOURCES = tests/unit/test_gate.c $(gate_env)
tests_unit_test_gate_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_gate_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_gate_LDADD = libvmpaird.la $(CMOCKA_LIBS)
tests_unit_test_gate_LDFLAGS = $(AM_LDFLAGS) -Wl,--wrap=mnl_socket_sendto,--wrap=vmp_tcbpf_map_mmap
tests_unit_test_gate_clsact_SOURCES = $(tests_unit_test_gate_SOURCES)
tests_unit_test_gate_clsact_CPPFLAGS = $(TEST_CPPFLAGS) -DGATE_TEST_CLSACT
tests_unit_test_gate_clsact_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_gate_clsact_LDADD = libvmpaird.la $(CMOCKA_LIBS)
tests_unit_test_gate_clsact_LDFLAGS = $(tests_unit_test_gate_LDFLAGS)
tests_unit_test_gate_host_SOURCES = tests/unit/test_gate_host.c $(gate_env)
tests_unit_test_gate_host_CPPFLAGS = $(TEST_CPPFLAGS) -DGUARD_PROGRAM='"$(abs_top_builddir)/vmpair-vrrp-guard"'
tests_unit_test_gate_host_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_gate_host_LDADD = libvmpaird.la $(CMOCKA_LIBS)
tests_unit_test_gate_host_clsact_SOURCES = $(tests_unit_test_gate_host_SOURCES)
tests_unit_test_gate_host_clsact_CPPFLAGS = $(tests_unit_test_gate_host_CPPFLAGS) -DGATE_TEST_CLSACT
tests_unit_test_gate_host_clsact_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_gate_host_clsact_LDADD = libvmpaird.la $(CMOCKA_LIBS)
tests_unit_test_gate_prog_SOURCES = tests/unit/test_gate_prog.c
tests_unit_test_gate_prog_CPPFLAGS = $(TEST_CPPFLAGS) -DGATE_BPF_SOURCE='"$(abs_top_srcdir)/daemon/bpf/gate.bpf.c"' \
	-DHOST_BPF_SOURCE='"$(abs_top_srcdir)/daemon/bpf/host.bpf.c"'
tests_unit_test_gate_prog_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_gate_prog_LDADD = libvmpaird.la $(CMOCKA_LIBS)
tests_bench_gate_bench_SOURCES = tests/bench/gate_bench.c $(gate_env)
tests_bench_gate_bench_CPPFLAGS = $(TEST_CPPFLAGS)
tests_bench_gate_bench_CFLAGS = $(TEST_CFLAGS)
tests_bench_gate_bench_LDADD = libvmpaird.la
endif


# --- virtual machines ---
if UNIT_TESTS
check_PROGRAMS += tests/unit/test_domxml tests/unit/test_probe tests/unit/test_proc tests/unit/test_slot tests/unit/test_virt
TESTS += tests/unit/test_domxml tests/unit/test_probe tests/unit/test_proc tests/unit/test_slot tests/unit/test_virt
tests_unit_test_domxml_SOURCES = tests/unit/test_domxml.c
tests_unit_test_domxml_CPPFLAGS = $(TEST_CPPFLAGS) -DTEST_DIR='"$(abs_top_srcdir)/tests/unit/domxml"'
tests_unit_test_domxml_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_domxml_LDADD = libvmpaird.la $(CMOCKA_LIBS)
tests_unit_test_probe_SOURCES = tests/unit/test_probe.c
tests_unit_test_probe_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_probe_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_probe_LDADD = libvmpaird.la $(CMOCKA_LIBS)
tests_unit_test_proc_SOURCES = tests/unit/test_proc.c
tests_unit_test_proc_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_proc_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_proc_LDADD = libvmpaird.la $(CMOCKA_LIBS)
tests_unit_test_slot_SOURCES = tests/unit/test_slot.c
tests_unit_test_slot_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_slot_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_slot_LDADD = libvmpaird.la $(CMOCKA_LIBS)
tests_unit_test_virt_SOURCES = tests/unit/test_virt.c
tests_unit_test_virt_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_virt_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_virt_LDADD = libvmpaird.la $(CMOCKA_LIBS)
endif
EXTRA_DIST += %D%/unit/domxml


# --- agents, command line, control ---
if UNIT_TESTS
AGENT_UNIT_TESTS = %D%/unit/test_agent %D%/unit/test_agree %D%/unit/test_cli %D%/unit/test_ctl %D%/unit/test_facts %D%/unit/test_fenced %D%/unit/test_pairparam %D%/unit/test_pcmk %D%/unit/test_trigger
check_PROGRAMS += $(AGENT_UNIT_TESTS)
TESTS += $(AGENT_UNIT_TESTS)
%C%_unit_test_agent_SOURCES = %D%/unit/test_agent.c %D%/unit/pollloop.c %D%/unit/pollloop.h
%C%_unit_test_agent_CPPFLAGS = $(TEST_CPPFLAGS)
%C%_unit_test_agent_CFLAGS = $(TEST_CFLAGS)
%C%_unit_test_agent_LDADD = libvmpaird.la $(CMOCKA_LIBS)
%C%_unit_test_agree_SOURCES = %D%/unit/test_agree.c
%C%_unit_test_agree_CPPFLAGS = $(TEST_CPPFLAGS)
%C%_unit_test_agree_CFLAGS = $(TEST_CFLAGS)
%C%_unit_test_agree_LDADD = libvmpcore.la $(CMOCKA_LIBS)
%C%_unit_test_trigger_SOURCES = %D%/unit/test_trigger.c
%C%_unit_test_trigger_CPPFLAGS = $(TEST_CPPFLAGS)
%C%_unit_test_trigger_CFLAGS = $(TEST_CFLAGS)
%C%_unit_test_trigger_LDADD = libvmpcore.la $(CMOCKA_LIBS)
%C%_unit_test_cli_SOURCES = %D%/unit/test_cli.c %D%/unit/pollloop.c %D%/unit/pollloop.h
%C%_unit_test_cli_CPPFLAGS = $(TEST_CPPFLAGS)
%C%_unit_test_cli_CFLAGS = $(TEST_CFLAGS)
%C%_unit_test_cli_LDADD = libvmpaird.la $(CMOCKA_LIBS)
%C%_unit_test_ctl_SOURCES = %D%/unit/test_ctl.c %D%/unit/pollloop.c %D%/unit/pollloop.h
%C%_unit_test_ctl_CPPFLAGS = $(TEST_CPPFLAGS)
%C%_unit_test_ctl_CFLAGS = $(TEST_CFLAGS)
%C%_unit_test_ctl_LDADD = libvmpaird.la $(CMOCKA_LIBS)
%C%_unit_test_facts_SOURCES = %D%/unit/test_facts.c
%C%_unit_test_facts_CPPFLAGS = $(TEST_CPPFLAGS)
%C%_unit_test_facts_CFLAGS = $(TEST_CFLAGS)
%C%_unit_test_facts_LDADD = libvmpctl.la $(JANSSON_LIBS) $(CMOCKA_LIBS)
%C%_unit_test_fenced_SOURCES = %D%/unit/test_fenced.c
%C%_unit_test_fenced_CPPFLAGS = $(TEST_CPPFLAGS)
%C%_unit_test_fenced_CFLAGS = $(TEST_CFLAGS)
%C%_unit_test_fenced_LDADD = libvmpaird.la $(CMOCKA_LIBS)
%C%_unit_test_pcmk_SOURCES = %D%/unit/test_pcmk.c %D%/unit/pollloop.c %D%/unit/pollloop.h
%C%_unit_test_pcmk_CPPFLAGS = $(TEST_CPPFLAGS)
%C%_unit_test_pcmk_CFLAGS = $(TEST_CFLAGS)
%C%_unit_test_pcmk_LDADD = libvmpaird.la $(CMOCKA_LIBS)
%C%_unit_test_pairparam_SOURCES = %D%/unit/test_pairparam.c
%C%_unit_test_pairparam_CPPFLAGS = $(TEST_CPPFLAGS)
%C%_unit_test_pairparam_CFLAGS = $(TEST_CFLAGS)
%C%_unit_test_pairparam_LDADD = libvmpctl.la $(JANSSON_LIBS) $(CMOCKA_LIBS)
endif
dist_check_SCRIPTS += %D%/check-agent-metadata.sh %D%/check-fence-agent.sh %D%/check-cib-examples.sh %D%/check-install.sh %D%/check-man.sh %D%/check-run.sh
TESTS += %D%/check-agent-metadata.sh %D%/check-fence-agent.sh %D%/check-cib-examples.sh %D%/check-install.sh %D%/check-man.sh %D%/check-run.sh


# --- loop, log, journal ---
if UNIT_TESTS
check_PROGRAMS += tests/unit/test_hostwatch tests/unit/test_journal tests/unit/test_loop tests/unit/test_relay
TESTS += tests/unit/test_hostwatch tests/unit/test_journal tests/unit/test_loop tests/unit/test_relay
tests_unit_test_hostwatch_SOURCES = tests/unit/test_hostwatch.c
tests_unit_test_hostwatch_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_hostwatch_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_hostwatch_LDADD = libvmpaird.la $(CMOCKA_LIBS)
tests_unit_test_relay_SOURCES = tests/unit/test_relay.c tests/unit/testdir.h
tests_unit_test_relay_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_relay_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_relay_LDADD = libvmpaird.la $(CMOCKA_LIBS)
tests_unit_test_journal_SOURCES = tests/unit/test_journal.c
tests_unit_test_journal_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_journal_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_journal_LDADD = libvmpaird.la $(CMOCKA_LIBS)
tests_unit_test_loop_SOURCES = tests/unit/test_loop.c
tests_unit_test_loop_CPPFLAGS = $(TEST_CPPFLAGS)
tests_unit_test_loop_CFLAGS = $(TEST_CFLAGS)
tests_unit_test_loop_LDADD = libvmpaird.la $(CMOCKA_LIBS)
endif


# --- framings ---
if UNIT_TESTS
FRAME_UNIT_TESTS = %D%/unit/test_frame_http1 %D%/unit/test_frame_other
check_PROGRAMS += $(FRAME_UNIT_TESTS)
TESTS += $(FRAME_UNIT_TESTS)
%C%_unit_test_frame_http1_SOURCES = %D%/unit/test_frame_http1.c %D%/unit/framefeed.h
%C%_unit_test_frame_http1_CPPFLAGS = $(TEST_CPPFLAGS)
%C%_unit_test_frame_http1_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
%C%_unit_test_frame_http1_LDADD = libvmpframe.la $(CMOCKA_LIBS)
%C%_unit_test_frame_other_SOURCES = %D%/unit/test_frame_other.c %D%/unit/framefeed.h
%C%_unit_test_frame_other_CPPFLAGS = $(TEST_CPPFLAGS)
%C%_unit_test_frame_other_CFLAGS = $(AM_CFLAGS) $(CMOCKA_CFLAGS)
%C%_unit_test_frame_other_LDADD = libvmpframe.la $(CMOCKA_LIBS)
endif

check_PROGRAMS += tests/fuzz/replay_frame
TESTS += tests/fuzz/replay_frame
tests_fuzz_replay_frame_SOURCES = tests/fuzz/replay.c tests/fuzz/fuzz_frame.c tests/fuzz/fuzz.h tests/unit/framefeed.h
tests_fuzz_replay_frame_CPPFLAGS = $(TEST_CPPFLAGS) -DFUZZ_NAME='"frame"'
tests_fuzz_replay_frame_LDADD = libvmpframe.la
if FUZZERS
noinst_PROGRAMS += tests/fuzz/fuzz_frame
tests_fuzz_fuzz_frame_SOURCES = tests/fuzz/fuzz_frame.c tests/fuzz/fuzz.h tests/unit/framefeed.h $(VMP_FRAME_SOURCES)
tests_fuzz_fuzz_frame_CPPFLAGS = $(TEST_CPPFLAGS)
tests_fuzz_fuzz_frame_CFLAGS = $(WARN_CFLAGS) -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all
tests_fuzz_fuzz_frame_LDFLAGS = -fsanitize=fuzzer,address,undefined
endif
# bench/relay.sh of the lab runs these two
noinst_PROGRAMS += tests/bench/codec_bench tests/bench/frame_bench
tests_bench_codec_bench_SOURCES = tests/bench/codec_bench.c
tests_bench_codec_bench_LDADD = libvmpair.la
tests_bench_frame_bench_SOURCES = tests/bench/frame_bench.c
tests_bench_frame_bench_CPPFLAGS = $(TEST_CPPFLAGS)
tests_bench_frame_bench_LDADD = libvmpframe.la


# --- whole tree: headers, purity, man pages, examples ---


