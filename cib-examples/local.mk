# SPDX-License-Identifier: GPL-2.0-or-later
# Each is applied to a CIB file by tests/check-cib-examples.sh and to the lab by a lab test.
cibexamplesdir = $(docdir)/cib-examples
dist_cibexamples_DATA = %D%/pair.xml %D%/fence.xml %D%/keepalived.conf
dist_cibexamples_SCRIPTS = %D%/pair.pcs.sh %D%/pair.crm.sh %D%/fence.pcs.sh %D%/fence.crm.sh
