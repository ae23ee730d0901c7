/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * relaydrive KEYS ENTRY PORT BACKEND PORT BIND1 BIND2 COMMAND1 COMMAND2
 *
 * The daemons' side of the control channel for two relays on one machine, for measurements without a cluster. COMMAND1 and
 * COMMAND2 start a relay each (they may enter a namespace or choose a core first) and get "--control-fd 3" behind them.
 * Lines on standard input, each answered by one line:
 *   alone      relay 1 is primary, no standby         alone PID1
 *   sync       relay 2 is its standby, recorded       sync PID1 PID2
 *   hold N     N requests are under way, and the standby has them: relay 1 answers nothing any more      held
 *   takeover   relay 1 is killed, relay 2 primary     bound NS       (CLOCK_MONOTONIC, before relay 2 is told)
 *   end        both are killed                    ended
 *   quit       or the end of input
 * Events of the relays go to standard error. A step that takes more than 20 s ends it with status 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#define STEP_MS 20000

static const char *keys, *entry, *entry_port, *backend, *backend_port;

static struct relay {
	int node, fd;
	pid_t pid;
	const char *bind, *command;
	uint64_t member;
	int port;
	char line[8192];
	size_t len;
} relays[2] = { { .node = 1, .fd = -1 }, { .node = 2, .fd = -1 } };

static uint64_t epoch, members = 0x1000;
static unsigned int op;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

__attribute__((noreturn)) static void die(const char *what)
{
	fprintf(stderr, "relaydrive: %s%s%s\n", what, errno ? ": " : "", errno ? strerror(errno) : "");
	exit(1);
}

__attribute__((format(printf, 2, 3))) static void tell(struct relay *r, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (vdprintf(r->fd, fmt, ap) < 0)
		die("relay");
	va_end(ap);
}

/* Reads what there is; a relay must not end by itself. */
static void take(struct relay *r)
{
	ssize_t n;

	if (r->len == sizeof(r->line))
		die("a line that is too long");
	n = read(r->fd, r->line + r->len, sizeof(r->line) - r->len);
	if (n <= 0)
		die("a relay has ended");
	r->len += (size_t)n;
}

/* The next event, shown unless it is a count; NULL: none is there. */
static json_t *next(struct relay *r)
{
	char *nl = memchr(r->line, '\n', r->len);
	const char *ev;
	json_t *e;

	if (!nl)
		return NULL;
	e = json_loadb(r->line, (size_t)(nl - r->line), 0, NULL);
	ev = json_string_value(json_object_get(e, "ev"));
	if (!ev)
		die("a line that is no event");
	if (strcmp(ev, "stats") != 0)
		fprintf(stderr, "relay %d: %.*s\n", r->node, (int)(nl - r->line), r->line);
	r->len -= (size_t)(nl + 1 - r->line);
	memmove(r->line, nl + 1, r->len);
	if (strcmp(ev, "need-member") == 0) {
		r->member = ++members;
		tell(r, "{\"cmd\":\"member\",\"member\":\"0x%" PRIx64 "\"}\n", r->member);
	}
	return e;
}

/* The next event of that name; earlier ones are dropped. */
static json_t *expect(struct relay *r, const char *name)
{
	uint64_t end = now_ns() + (uint64_t)STEP_MS * 1000000;

	for (;;) {
		struct pollfd p = { .fd = r->fd, .events = POLLIN };
		json_t *e;

		while ((e = next(r))) {
			if (strcmp(json_string_value(json_object_get(e, "ev")), name) == 0)
				return e;
			json_decref(e);
		}
		if (now_ns() >= end) {
			errno = ETIMEDOUT;
			die(name);
		}
		if (poll(&p, 1, 1000) > 0)
			take(r);
	}
}

static void start(struct relay *r)
{
	char command[1024];
	json_t *e;
	int fds[2];

	snprintf(command, sizeof(command), "exec %s --control-fd 3", r->command);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
		die("socketpair");
	r->pid = fork();
	if (r->pid < 0)
		die("fork");
	if (r->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (fds[1] == 3 ? fcntl(3, F_SETFD, 0) < 0 : dup2(fds[1], 3) < 0)
			_exit(126);
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	close(fds[1]);
	r->fd = fds[0];
	r->len = 0;
	r->member = ++members;
	tell(r, "{\"cmd\":\"config\",\"version\":1,\"pair\":\"bench\",\"id\":\"0x1\",\"node\":%d,\"member\":\"0x%" PRIx64 "\","
		"\"listen\":[\"%s\"],\"backend\":\"%s\",\"services\":[{\"framing\":\"http1\",\"port\":%s,\"backend_port\":%s}],"
		"\"kind\":\"journal\",\"redo\":\"all\",\"keys\":\"%s\",\"bind\":\"%s\",\"port_min\":7700,\"port_max\":7799,"
		"\"peer_timeout_ms\":1000,\"hb_ms\":50}\n",
	     r->node, r->member, entry, backend, entry_port, backend_port, keys, r->bind);
	e = expect(r, "hello");
	r->port = (int)json_integer_value(json_object_get(e, "sync_port"));
	json_decref(e);
}

static void stop(struct relay *r)
{
	if (r->fd < 0)
		return;
	kill(r->pid, SIGKILL);
	while (waitpid(r->pid, NULL, 0) < 0 && errno == EINTR)
		;
	close(r->fd);
	r->fd = -1;
}

static void fence(struct relay *r)
{
	tell(r, "{\"cmd\":\"fence\",\"epoch\":\"0x%" PRIx64 "\",\"op\":%u}\n", epoch, ++op);
	json_decref(expect(r, "ready"));
}

static void primary(struct relay *r)
{
	tell(r, "{\"cmd\":\"fence\",\"epoch\":\"0x%" PRIx64 "\",\"op\":%u}\n"
		"{\"cmd\":\"role\",\"role\":\"primary\",\"epoch\":\"0x%" PRIx64 "\"}\n"
		"{\"cmd\":\"mode\",\"mode\":\"alone\",\"op\":%u,\"node\":0,\"member\":\"0x0\"}\n", epoch, op + 1, epoch, op + 2);
	op += 2;
}

static void alone(struct relay *a, struct relay *b)
{
	stop(b);
	if (a->fd < 0) {
		start(a);
		epoch++;
		primary(a);
	} else {
		tell(a, "{\"cmd\":\"peer\",\"node\":0}\n{\"cmd\":\"mode\",\"mode\":\"alone\",\"op\":%u,\"node\":0,\"member\":\"0x0\"}\n", ++op);
	}
}

/* The standby has everything up to now; nothing is answered until the next mode. */
static void mark(struct relay *a, const struct relay *b)
{
	json_t *e;
	bool on;

	tell(a, "{\"cmd\":\"mode\",\"mode\":\"wait\",\"op\":%u,\"node\":%d,\"member\":\"0x%" PRIx64 "\"}\n", ++op, b->node, b->member);
	do {
		e = expect(a, "caught");
		on = json_is_true(json_object_get(e, "on")) && json_integer_value(json_object_get(e, "op")) == op;
		json_decref(e);
	} while (!on);
}

static void hold(struct relay *a, const struct relay *b, long n)
{
	json_t *e;
	bool there;

	do {
		e = expect(a, "stats");
		there = json_integer_value(json_object_get(e, "in_flight")) >= n;
		json_decref(e);
	} while (!there);
	mark(a, b);
}

/* By the recorded steps: caught up, then everything up to a mark, then in sync. */
static void sync_with(struct relay *a, struct relay *b)
{
	json_t *e;
	bool on;

	if (a->fd < 0)
		alone(a, b);
	if (b->fd >= 0)
		return;
	start(b);
	tell(a, "{\"cmd\":\"peer\",\"node\":%d,\"address\":\"%s\",\"port\":%d,\"member\":\"0x%" PRIx64 "\"}\n", b->node, b->bind, b->port,
	     b->member);
	fence(b);
	tell(b, "{\"cmd\":\"role\",\"role\":\"standby\",\"epoch\":\"0x%" PRIx64 "\"}\n"
		"{\"cmd\":\"peer\",\"node\":%d,\"address\":\"%s\",\"port\":%d,\"member\":\"0x%" PRIx64 "\"}\n",
	     epoch, a->node, a->bind, a->port, a->member);
	do {
		e = expect(a, "caught");
		on = json_is_true(json_object_get(e, "on"));
		json_decref(e);
	} while (!on);
	mark(a, b);
	tell(a, "{\"cmd\":\"mode\",\"mode\":\"sync\",\"op\":%u,\"node\":%d,\"member\":\"0x%" PRIx64 "\"}\n", ++op, b->node, b->member);
}

int main(int argc, char **argv)
{
	struct relay *a = &relays[0], *b = &relays[1];
	char line[64];

	if (argc != 10) {
		fprintf(stderr, "usage: relaydrive KEYS ENTRY PORT BACKEND PORT BIND1 BIND2 COMMAND1 COMMAND2\n");
		return 2;
	}
	keys = argv[1];
	entry = argv[2];
	entry_port = argv[3];
	backend = argv[4];
	backend_port = argv[5];
	a->bind = argv[6];
	b->bind = argv[7];
	a->command = argv[8];
	b->command = argv[9];
	signal(SIGPIPE, SIG_IGN);
	setvbuf(stdout, NULL, _IOLBF, 0);
	/* what relays say of themselves must not pile up */
	for (;;) {
		struct pollfd p[3] = { { STDIN_FILENO, POLLIN, 0 }, { a->fd, POLLIN, 0 }, { b->fd, POLLIN, 0 } };

		if (poll(p, 3, -1) < 0)
			continue;
		for (int i = 0; i < 2; i++)
			if (p[i + 1].revents) {
				json_t *e;

				take(&relays[i]);
				while ((e = next(&relays[i])))
					json_decref(e);
			}
		if (!p[0].revents)
			continue;
		if (!fgets(line, sizeof(line), stdin))
			break;
		errno = 0;
		if (strcmp(line, "quit\n") == 0)
			break;
		if (strcmp(line, "alone\n") == 0) {
			alone(a, b);
			printf("alone %d\n", (int)a->pid);
		} else if (strcmp(line, "sync\n") == 0) {
			sync_with(a, b);
			printf("sync %d %d\n", (int)a->pid, (int)b->pid);
		} else if (strncmp(line, "hold ", 5) == 0 && b->fd >= 0) {
			hold(a, b, atol(line + 5));
			printf("held\n");
		} else if (strcmp(line, "takeover\n") == 0 && b->fd >= 0) {
			uint64_t t;

			stop(a);
			epoch++;
			t = now_ns();
			primary(b);
			printf("bound %" PRIu64 "\n", t);
		} else if (strcmp(line, "end\n") == 0) {
			stop(a);
			stop(b);
			printf("ended\n");
		} else {
			die(line);
		}
	}
	stop(a);
	stop(b);
	return 0;
}
