/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * An application that only wants to know whether it is where the entry is: runs a command while this host is primary for a pair, and
 * ends it when it is not any more.
 *
 *   role PAIR COMMAND [ARGUMENT...]     e.g. role web /usr/local/bin/send-newsletter
 *   role --once PAIR                    prints the role, exit status 0 primary, 1 not
 *
 *   cc role.c -o role $(pkg-config --cflags --libs libvmpair)
 *
 * VMPAIR_ROLE_DIR in the environment names another directory of pages (for tests).
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <vmpair/role.h>

/* A pair that is not (or no longer) on this host is not primary here. */
static struct vmpair_role_info look(struct vmpair_role_page **page, const char *pair)
{
	struct vmpair_role_info info = { 0 };
	int r = 0;

	if (!*page)
		r = vmpair_role_open(page, getenv("VMPAIR_ROLE_DIR"), pair);
	if (r == 0 && vmpair_role_read(*page, &info) == -ESTALE)
		*page = vmpair_role_close(*page);
	if (r < 0 && r != -ENOENT) {
		fprintf(stderr, "role: %s: %s\n", pair, strerror(-r));
		exit(2);
	}
	return info;
}

static pid_t start(char **argv)
{
	pid_t pid = fork();

	if (pid == 0) {
		execvp(argv[0], argv);
		fprintf(stderr, "role: %s: %s\n", argv[0], strerror(errno));
		_exit(127);
	}
	return pid;
}

int main(int argc, char **argv)
{
	struct vmpair_role_page *page = NULL;
	struct vmpair_role_info info;
	pid_t child = 0;

	if (argc < 3) {
		fprintf(stderr, "usage: role PAIR COMMAND [ARGUMENT...] | role --once PAIR\n");
		return 2;
	}
	if (!strcmp(argv[1], "--once")) {
		info = look(&page, argv[2]);
		printf("%s epoch %llu\n", info.primary ? "primary" : "not primary", (unsigned long long)info.epoch);
		vmpair_role_close(page);
		return !info.primary;
	}
	for (;;) {
		int status;

		info = look(&page, argv[1]);
		if (child > 0 && waitpid(child, &status, WNOHANG) == child) {
			vmpair_role_close(page);
			return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
		}
		if (info.primary && child <= 0) {
			child = start(argv + 2);
		} else if (!info.primary && child > 0) {	/* the lease is over: at once, whatever it is doing */
			kill(child, SIGKILL);
			waitpid(child, &status, 0);
			child = 0;
		}
		poll(NULL, 0, 20);
	}
}
