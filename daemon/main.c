/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vmpaird: command line. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/conf.h"
#include "config.h"
#include "daemon/daemon.h"

static int usage(FILE *f)
{
	fputs("Usage: vmpaird [-f] [-c FILE]     run\n"
	      "       vmpaird --witness [-f] [-c FILE]   run as a voter only: no VMs, no Corosync, no Pacemaker, no libvirt\n"
	      "       vmpaird -t [--witness] [-c FILE]   check the configuration and the keys, start nothing\n"
	      "       vmpaird --purge            remove every gate, tap and fence of vmpair from this host (vmpaird must not run)\n"
	      "       vmpaird --print-config     print all settings with their defaults and meaning\n"
	      "\n"
	      "  -c, --config FILE   configuration (default " VMP_CONF_FILE ", which may be missing: all defaults)\n"
	      "  -f, --foreground    log to stderr with times\n"
	      "  -t, --test          check and exit: 0 good, 1 errors (each as FILE:LINE)\n"
	      "      --witness       the voter outside the cluster that `witness` in the configuration names; `hosts` are its peers\n"
	      "  -h, --help          this text\n"
	      "  -V, --version       version\n"
	      "\n"
	      "Signals: TERM holds the leases of this node for a bounded time and ends, VMs go on; HUP reads configuration and keys again.\n",
	      f);
	return f == stderr ? 2 : 0;
}

static int check(const char *path, bool witness)
{
	const char *name = path ? path : VMP_CONF_FILE;
	struct vmp_diag diag;
	struct vmp_conf conf;
	struct vmp_keys keys;
	int r;

	vmp_diag_init(&diag);
	r = vmp_conf_load(path, &conf, &diag);
	if (r == 0 && witness)
		r = vmp_conf_check_witness(name, &conf, &diag);
	if (r == 0) {
		r = vmp_keys_load(conf.key_file, &keys, &diag);
		if (r == 0)
			vmp_keys_wipe(&keys);
	}
	if (r < 0) {
		fputs(diag.text, stderr);
		return 1;
	}
	printf("%s: %s; lease of a holder %u ms, heartbeats every %u ms", name, access(name, F_OK) == 0 ? "good" : "missing, all defaults", conf.holder_ms, conf.hb_ms);
	if (*conf.witness)
		printf("; witness %s", conf.witness);
	if (*conf.hosts)
		printf("; hosts %s", conf.hosts);
	putchar('\n');
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "config", required_argument, NULL, 'c' }, { "foreground", no_argument, NULL, 'f' },
		{ "test", no_argument, NULL, 't' },	    { "purge", no_argument, NULL, 'P' },
		{ "print-config", no_argument, NULL, 'p' }, { "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },	    { "witness", no_argument, NULL, 'w' },
		{ NULL, 0, NULL, 0 },
	};
	struct vmp_run_opts opts = { 0 };
	enum { RUN, TEST, PURGE, PRINT } todo = RUN;
	struct vmp_conf conf;
	char reason[VMP_GATE_REASON] = "";
	int c;

	while ((c = getopt_long(argc, argv, "c:fthV", longs, NULL)) != -1) {
		switch (c) {
		case 'c':
			opts.conf_path = optarg;
			break;
		case 'f':
			opts.foreground = true;
			break;
		case 'w':
			opts.witness = true;
			break;
		case 't':
			todo = TEST;
			break;
		case 'P':
			todo = PURGE;
			break;
		case 'p':
			todo = PRINT;
			break;
		case 'h':
			return usage(stdout);
		case 'V':
			puts("vmpaird " PACKAGE_VERSION);
			return 0;
		default:
			return usage(stderr);
		}
	}
	if (optind < argc) {
		fprintf(stderr, "vmpaird: unknown argument: %s\n", argv[optind]);
		return usage(stderr);
	}
	switch (todo) {
	case TEST:
		return check(opts.conf_path, opts.witness);
	case PRINT:
		vmp_conf_defaults(&conf);
		return vmp_conf_write(&conf, stdout) < 0;
	case PURGE:
		if (vmp_gate_purge(NULL, reason, sizeof(reason)) < 0) {
			fprintf(stderr, "vmpaird: %s\n", reason);
			return 1;
		}
		return 0;
	case RUN:
		break;
	}
	return vmp_run(&opts);
}
