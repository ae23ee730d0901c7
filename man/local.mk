# SPDX-License-Identifier: GPL-2.0-or-later
# Pages with tables are made from templates, so that they say what the programs do.
dist_man_MANS += %D%/fence_vmpair.8 %D%/vmpair.8 %D%/vmpair-guest.8 %D%/vmpair-relay.8 %D%/vmpaird.8
nodist_man_MANS = %D%/vmpaird.conf.5 %D%/ocf_vmpair_pair.7 %D%/vmpair-keepalived.7
EXTRA_DIST += %D%/vmpaird.conf.5.in %D%/ocf_vmpair_pair.7.in %D%/vmpair-keepalived.7.in
CLEANFILES += $(nodist_man_MANS)
noinst_PROGRAMS += %D%/genman
%C%_genman_SOURCES = %D%/genman.c
%C%_genman_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS)
%C%_genman_LDFLAGS = $(AM_LDFLAGS) -Wl,--as-needed
%C%_genman_LDADD = libvmpaird.la libvmpctl.la
%D%/vmpaird.conf.5: %D%/vmpaird.conf.5.in %D%/genman$(EXEEXT)
	$(AM_V_GEN)$(MKDIR_P) %D% && %D%/genman$(EXEEXT) < $(srcdir)/%D%/vmpaird.conf.5.in > $@.tmp && mv $@.tmp $@
%D%/ocf_vmpair_pair.7: %D%/ocf_vmpair_pair.7.in %D%/genman$(EXEEXT)
	$(AM_V_GEN)$(MKDIR_P) %D% && %D%/genman$(EXEEXT) < $(srcdir)/%D%/ocf_vmpair_pair.7.in > $@.tmp && mv $@.tmp $@
# the page shows the very file that a lab test uses
%D%/vmpair-keepalived.7: %D%/vmpair-keepalived.7.in cib-examples/keepalived.conf
	$(AM_V_GEN)$(MKDIR_P) %D% && sed -e '/^@EXAMPLE@$$/{r $(srcdir)/cib-examples/keepalived.conf' -e 'd}' \
		$(srcdir)/%D%/vmpair-keepalived.7.in | sed '/^# SPDX/d' > $@.tmp && mv $@.tmp $@

# --- libvmpair; every other function has a page that leads to its page ---
VMPAIR_MAN3 = \
	%D%/libvmpair.3 \
	%D%/vmpair_record_encode.3 \
	%D%/vmpair_role_open.3 \
	%D%/vmpair_session_execute.3 \
	%D%/vmpair_session_link_up.3 \
	%D%/vmpair_session_new.3 \
	%D%/vmpair_session_primary.3 \
	%D%/vmpair_session_request.3
dist_man_MANS += $(VMPAIR_MAN3)
install-data-hook:
	cd $(DESTDIR)$(man3dir) && for page in vmpair_*.3; do \
		for name in `sed -n 's/^\.Fn \(vmpair_[a-z_]*\) .*/\1/p' $$page`; do \
			test -e $$name.3 || echo ".so man3/$$page" > $$name.3 || exit 1; \
		done; \
	done
uninstall-hook:
	cd $(DESTDIR)$(man3dir) && rm -f vmpair_*.3
