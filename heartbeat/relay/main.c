/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vmpair-relay: command line. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include <gnutls/gnutls.h>

#include "config.h"
#include "heartbeat/relay/relay.h"

static int usage(FILE *f)
{
	fputs("Usage: vmpair-relay --control-fd FD             commands come on an inherited socket; ends with it\n"
	      "       vmpair-relay --control-listen PATH       they come on a socket made here; goes on while nobody is connected\n"
	      "       vmpair-relay --control DEVICE [--keys FILE]   they come on a virtio port, inside a guest\n"
	      "\n"
	      "  -k, --keys FILE     key file, instead of the one the configuration names\n"
	      "  -h, --help          this text\n"
	      "  -V, --version       version\n"
	      "\n"
	      "Started by vmpaird, or inside a guest by its init; everything else is told on the control channel (vmpair-relay(8)).\n",
	      f);
	return f == stderr ? 2 : 0;
}

static int to_fd(const char *text)
{
	char *end;
	long v = strtol(text, &end, 10);

	return *text && !*end && v >= 0 && v < 1 << 20 ? (int)v : -1;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "control-fd", required_argument, NULL, 'f' }, { "control-listen", required_argument, NULL, 'l' },
		{ "control", required_argument, NULL, 'c' },	{ "keys", required_argument, NULL, 'k' },
		{ "help", no_argument, NULL, 'h' },		{ "version", no_argument, NULL, 'V' },
		{ NULL, 0, NULL, 0 },
	};
	enum vmpr_ctl_kind kind = VMPR_CTL_FD;
	const char *path = NULL;
	unsigned int ways = 0;
	struct vmpr_relay *r;
	int c, fd = -1, n;

	r = calloc(1, sizeof(*r));
	if (!r)
		return 1;
	while ((c = getopt_long(argc, argv, "k:hV", longs, NULL)) != -1) {
		switch (c) {
		case 'f':
			kind = VMPR_CTL_FD;
			fd = to_fd(optarg);
			ways += fd >= 0;
			break;
		case 'l':
			kind = VMPR_CTL_LISTEN;
			path = optarg;
			ways++;
			break;
		case 'c':
			kind = VMPR_CTL_DEVICE;
			path = optarg;
			ways++;
			break;
		case 'k':
			r->keys_path = optarg;
			break;
		case 'h':
			free(r);
			return usage(stdout);
		case 'V':
			puts("vmpair-relay " PACKAGE_VERSION);
			free(r);
			return 0;
		default:
			free(r);
			return usage(stderr);
		}
	}
	if (ways != 1 || optind != argc) {
		free(r);
		return usage(stderr);
	}
	signal(SIGPIPE, SIG_IGN);
	/* the memory holds keys and requests */
	prctl(PR_SET_DUMPABLE, 0);
	n = vmpr_relay_run(r, kind, path, fd);
	if (n < 0)
		vmp_log(LOG_ERR, "vmpair-relay: %s%s%s", path ? path : "", path ? ": " : "", strerror(-n));
	free(r);
	return n < 0 ? 1 : 0;
}
