# SPDX-License-Identifier: GPL-2.0-or-later
# The daemon is a library (tests and fuzzers link it); main.c only parses the command line and runs it.
noinst_LTLIBRARIES += libvmpaird.la
libvmpaird_la_CFLAGS = $(AM_CFLAGS) $(QB_CFLAGS) $(CPG_CFLAGS) $(CMAP_CFLAGS) $(QUORUM_CFLAGS) $(LIBVIRT_CFLAGS) \
	$(XML_CFLAGS) $(MNL_CFLAGS) $(NFTNL_CFLAGS) $(GNUTLS_CFLAGS) $(JANSSON_CFLAGS) $(SYSTEMD_CFLAGS)
libvmpaird_la_LIBADD = libvmpcore.la libvmpctl.la $(QB_LIBS) $(CPG_LIBS) $(CMAP_LIBS) $(QUORUM_LIBS) $(LIBVIRT_LIBS) \
	$(XML_LIBS) $(MNL_LIBS) $(NFTNL_LIBS) $(GNUTLS_LIBS) $(JANSSON_LIBS) $(SYSTEMD_LIBS) -lpthread
libvmpaird_la_SOURCES =

# --- network: wire codec, datagram protection, keys, UDP ---
libvmpaird_la_SOURCES += \
	%D%/keys.c %D%/keys.h \
	%D%/net.c %D%/net.h \
	%D%/seal.c %D%/seal.h \
	%D%/wire.c %D%/wire.h


# --- configuration and persistence ---
libvmpaird_la_SOURCES += \
	%D%/conf.c %D%/conf.h \
	%D%/diag.c %D%/diag.h \
	%D%/store.c %D%/store.h


# --- entry gate: eBPF, fence, links, announcement ---
libvmpaird_la_SOURCES += \
	%D%/announce.c %D%/announce.h \
	%D%/fence.c %D%/fence.h \
	%D%/gate.c %D%/gate.h %D%/gate_int.h %D%/gate_pins.c %D%/gate_worker.c \
	%D%/link.c %D%/link.h \
	%D%/tickle.c %D%/tickle.h \
	%D%/tcbpf.c %D%/tcbpf_host.c %D%/tcbpf.h
EXTRA_DIST += %D%/bpf/gate.bpf.c %D%/bpf/host.bpf.c
# entry mode keepalived: the daemon's side, and the process that rules the track file
libvmpaird_la_SOURCES += %D%/vrrp.c %D%/vrrp.h
pkglibexec_PROGRAMS += vmpair-vrrp-guard
vmpair_vrrp_guard_SOURCES = %D%/vrrpguard.c
vmpair_vrrp_guard_LDADD = libvmpaird.la
vmpair_vrrp_guard_LDFLAGS = $(AM_LDFLAGS) -Wl,--as-needed


# --- virtual machines: libvirt, domain XML, readiness probes ---
libvmpaird_la_SOURCES += \
	%D%/slot.c %D%/slot.h \
	%D%/probe.c %D%/probe.h \
	%D%/domxml.c %D%/domxml.h \
	%D%/virt.c %D%/virt.h \
	%D%/virtcall.c %D%/virtcall.h


# --- what the agents and the command line share with the daemon: needs nothing but jansson ---
noinst_LTLIBRARIES += libvmpctl.la
libvmpctl_la_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS)
libvmpctl_la_LIBADD = libvmpframe.la $(JANSSON_LIBS)
libvmpctl_la_SOURCES = \
	%D%/addr.c %D%/addr.h \
	%D%/ctlclient.c %D%/ctlclient.h \
	%D%/facts.c %D%/facts.h \
	%D%/pairparam.c %D%/pairparam.h \
	%D%/proc.c %D%/proc.h \
	%D%/service.c %D%/service.h

# --- control socket (server), Pacemaker ---
libvmpaird_la_SOURCES += \
	%D%/cib.c \
	%D%/ctl.c %D%/ctl.h \
	%D%/pcmk.c %D%/pcmk.h

# --- loop, cluster, control socket, Pacemaker, execution of the core's actions ---
libvmpaird_la_SOURCES += \
	%D%/bars.c \
	%D%/cluster.c %D%/cluster.h \
	%D%/daemon.h \
	%D%/exec.c \
	%D%/fencing.c \
	%D%/group.c \
	%D%/hostwatch.c %D%/hostwatch.h \
	%D%/journal.c %D%/journal.h \
	%D%/log.c %D%/log.h \
	%D%/loop.c %D%/loop.h \
	%D%/member.c \
	%D%/relay.c %D%/relay.h \
	%D%/relaymsg.c %D%/relaymsg.h \
	%D%/request.c \
	%D%/rolepage.c %D%/rolepage.h \
	%D%/run.c \
	%D%/copies.c \
	%D%/signs.c \
	%D%/sync.c \
	%D%/witness.c %D%/witness.h


# --- programs ---
sbin_PROGRAMS += vmpaird
vmpaird_SOURCES = %D%/main.c
vmpaird_CFLAGS = $(libvmpaird_la_CFLAGS)
vmpaird_LDADD = libvmpaird.la

EXTRA_DIST += %D%/vmpaird.service.in %D%/vmpaird-witness.service.in
systemdsystemunit_DATA = vmpaird.service vmpaird-witness.service
CLEANFILES += vmpaird.service vmpaird-witness.service
vmpaird-witness.service: %D%/vmpaird-witness.service.in Makefile
	$(AM_V_GEN)sed -e 's|@sbindir[@]|$(sbindir)|g' $(srcdir)/%D%/vmpaird-witness.service.in > $@.tmp && mv $@.tmp $@
vmpaird.service: %D%/vmpaird.service.in Makefile
	$(AM_V_GEN)sed -e 's|@sbindir[@]|$(sbindir)|g' $(srcdir)/%D%/vmpaird.service.in > $@.tmp && mv $@.tmp $@
bin_PROGRAMS += vmpair
vmpair_SOURCES = %D%/cli/main.c %D%/cli/ask.c %D%/cli/files.c %D%/cli/out.c %D%/cli/cli.h
vmpair_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS)
vmpair_LDFLAGS = $(AM_LDFLAGS) -Wl,--as-needed
vmpair_LDADD = libvmpaird.la libvmpctl.la $(JANSSON_LIBS)
completiondir = $(datadir)/bash-completion/completions
EXTRA_DIST += %D%/cli/vmpair.bash
install-data-local:
	$(MKDIR_P) $(DESTDIR)$(completiondir) $(DESTDIR)$(sysconfdir)/vmpair
	$(INSTALL_DATA) $(srcdir)/%D%/cli/vmpair.bash $(DESTDIR)$(completiondir)/vmpair
# Configuration and keys stay. What is in the kernel is not taken away here: that would cut members off which run, and a
# staged uninstall (distcheck) has nothing to do with this machine's.
uninstall-local:
	rm -f $(DESTDIR)$(completiondir)/vmpair
	-rmdir $(DESTDIR)$(sysconfdir)/vmpair 2> /dev/null
	@if test -z "$(DESTDIR)" && test -d /sys/fs/bpf/vmpair; then \
		echo "Gates, taps and fences of vmpair are still in this kernel. With vmpaird stopped, remove them with:"; \
		echo "  $(abs_builddir)/vmpaird --purge"; \
		echo "What else stays, and how to remove it: vmpaird(8), REMOVAL ($(abs_srcdir)/man/vmpaird.8)"; \
	fi
