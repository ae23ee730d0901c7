/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs inside a guest: tells vmpaird on the host each second, through a virtio port, that programs here still get processor time and disk.
 * It asks for no priority: a guest too busy to run it is one that serves nobody either. On SIGTERM it says
 * that its silence will mean nothing from now on.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "config.h"

#define PORT "/dev/virtio-ports/org.vmpair.guest.0"

enum { PERIOD_MS = 1000 };

static int usage(FILE *f)
{
	fputs("Usage: vmpair-guest [--port DEVICE] [--disk DIRECTORY]\n"
	      "\n"
	      "  -p, --port DEVICE       instead of " PORT "\n"
	      "  -d, --disk DIRECTORY    a file is written in it before each sign of life: a guest that cannot write falls silent\n"
	      "  -h, --help              this text\n"
	      "  -V, --version           version\n",
	      f);
	return f == stderr ? 2 : 0;
}

/* True when something written now reaches the disk. */
static bool disk_works(const char *dir)
{
	char path[4096], text[32];
	struct timespec ts;
	bool ok;
	int fd, n;

	if (!dir)
		return true;
	if (snprintf(path, sizeof(path), "%s/.vmpair-guest", dir) >= (int)sizeof(path))
		return false;
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return false;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	n = snprintf(text, sizeof(text), "%lld\n", (long long)ts.tv_sec);
	ok = pwrite(fd, text, (size_t)n, 0) == n && fdatasync(fd) == 0;
	close(fd);
	return ok;
}

/* Nobody may be there on the host, or not read: what does not leave now is not kept. */
static int say(int fd, const char *word)
{
	if (write(fd, word, strlen(word)) >= 0 || errno == EAGAIN || errno == EINTR || errno == EPIPE)
		return 0;
	return -errno;
}

static void on_term(int signo)
{
	(void)signo;
}

int main(int argc, char **argv)
{
	static const struct option longs[] = {
		{ "port", required_argument, NULL, 'p' }, { "disk", required_argument, NULL, 'd' }, { "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'V' },	  { NULL, 0, NULL, 0 },
	};
	const struct timespec period = { .tv_sec = PERIOD_MS / 1000, .tv_nsec = PERIOD_MS % 1000 * 1000000 };
	const struct sigaction sa = { .sa_handler = on_term };
	const char *port = PORT, *disk = NULL;
	sigset_t ends, before;
	int c, fd, r = 0;

	while ((c = getopt_long(argc, argv, "p:d:hV", longs, NULL)) != -1) {
		switch (c) {
		case 'p':
			port = optarg;
			break;
		case 'd':
			disk = optarg;
			break;
		case 'h':
			return usage(stdout);
		case 'V':
			puts("vmpair-guest " PACKAGE_VERSION);
			return 0;
		default:
			return usage(stderr);
		}
	}
	if (optind != argc)
		return usage(stderr);
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	sigprocmask(SIG_BLOCK, &ends, &before);
	sigaction(SIGTERM, &sa, NULL);
	sigaction(SIGINT, &sa, NULL);
	signal(SIGPIPE, SIG_IGN);
	fd = open(port, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0) {
		fprintf(stderr, "vmpair-guest: %s: %s\n", port, strerror(errno));
		return 1;
	}
	while (r == 0) {
		if (disk_works(disk))
			r = say(fd, "alive\n");
		if (r == 0 && ppoll(NULL, 0, &period, &before) < 0 && errno == EINTR)
			break;
	}
	if (r < 0) {
		fprintf(stderr, "vmpair-guest: %s: %s\n", port, strerror(-r));
		return 1;
	}
	say(fd, "bye\n");
	return 0;
}
