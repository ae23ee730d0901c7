/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * crowd ADDRESS PORT CLIENTS FLYING
 *
 * HTTP clients with one connection each: all connect and have one request answered, then stay idle. Lines:
 *   (start)             idle                          all have been answered once
 *   fly                 flying                        FLYING of them have sent a request that carries an id, and wait
 *   reconnect           first NS  all NS LATE FAILED  every client connects anew, as fast as that goes, and asks: those in flight repeat their
 *                                                     request with its id. When the first and the last was answered (CLOCK_MONOTONIC);
 *                                                     LATE: how many took more than 1 s, FAILED: answered by something but status 200
 *   quit                or the end of input
 * A connection that is refused or reset after "reconnect" is tried again 5 ms later. Ends with status 1 after 60 s without progress.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define STUCK_MS 60000
#define RETRY_NS 5000000u
#define AT_ONCE 500	/* at the start only: connections being made */
#define BURST 16	/* connections begun before it is looked what has come: one process stands for many hosts */

enum { DOWN, ASKED, IDLE };

static struct client {
	int fd;
	uint8_t state;
	bool flying;
	uint64_t retry_at;
} *clients;

static unsigned int n_clients, n_flying;
static struct sockaddr_in server;
static int ep;
static bool storm;	/* after "reconnect" */
static unsigned int answered, failed, late, lost;
static uint64_t first_ns, storm_ns;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

__attribute__((noreturn)) static void die(const char *what)
{
	fprintf(stderr, "crowd: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void dial(struct client *c)
{
	struct epoll_event e = { .events = EPOLLIN | EPOLLOUT, .data.ptr = c };
	static const int one = 1;

	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		die("socket");
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(c->fd, (struct sockaddr *)&server, sizeof(server)) < 0 && errno != EINPROGRESS)
		die("connect");
	c->state = DOWN;
	if (epoll_ctl(ep, EPOLL_CTL_ADD, c->fd, &e) < 0)
		die("epoll_ctl");
}

static void hang_up(struct client *c)
{
	close(c->fd);
	c->fd = -1;
	lost++;
	c->retry_at = now_ns() + RETRY_NS;
	c->state = DOWN;
}

static void ask(struct client *c)
{
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };
	char text[256];
	int n;

	if (c->flying)
		n = snprintf(text, sizeof(text), "POST /fly HTTP/1.1\r\nHost: bench\r\nIdempotency-Key: \"%u\"\r\nContent-Length: 4\r\n\r\nfly\n",
			     (unsigned int)(c - clients));
	else
		n = snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nHost: bench\r\n\r\n");
	if (write(c->fd, text, (size_t)n) != n) {
		hang_up(c);
		return;
	}
	c->state = ASKED;
	epoll_ctl(ep, EPOLL_CTL_MOD, c->fd, &e);
}

static void event(struct client *c, uint32_t events)
{
	char buf[4096];
	ssize_t n;

	if (c->state == DOWN) {
		int err = 0;
		socklen_t len = sizeof(err);

		if ((events & (EPOLLERR | EPOLLHUP)) || getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len) < 0 || err)
			hang_up(c);
		else if (events & EPOLLOUT)
			ask(c);
		return;
	}
	n = read(c->fd, buf, sizeof(buf));
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		hang_up(c);
		return;
	}
	if (c->state != ASKED)
		return;
	/* the answers are small: one piece */
	c->state = IDLE;
	answered++;
	if (n < 12 || memcmp(buf, "HTTP/1.1 200", 12) != 0)
		failed++;
	if (storm) {
		uint64_t now = now_ns();

		if (!first_ns)
			first_ns = now;
		late += now - storm_ns > 1000000000u;
	}
}

/* Until `want` answers have come; -1 just looks once. */
static void run(long want)
{
	static struct epoll_event events[512];
	uint64_t progress = now_ns();
	unsigned int begun = 0, seen = answered;

	for (;;) {
		int n;

		for (unsigned int i = 0; i < BURST && want >= 0 && begun < n_clients && (storm || begun < answered + AT_ONCE); i++)
			dial(&clients[begun++]);
		n = epoll_wait(ep, events, 512, want < 0 || begun < n_clients ? 0 : storm ? 5 : 100);
		for (int i = 0; i < n; i++)
			event(events[i].data.ptr, events[i].events);
		if (want < 0 || answered >= (unsigned long)want)
			return;
		if (answered != seen) {
			seen = answered;
			progress = now_ns();
		}
		if (now_ns() - progress > STUCK_MS * 1000000ull) {
			errno = ETIMEDOUT;
			fprintf(stderr, "crowd: %u answers of %ld\n", answered, want);
			die("no answers");
		}
		if (n < 512 && lost)
			for (unsigned int i = 0; i < begun; i++)
				if (clients[i].fd < 0 && now_ns() >= clients[i].retry_at)
					dial(&clients[i]);
	}
}

int main(int argc, char **argv)
{
	struct rlimit rl;
	char line[64];

	if (argc != 5 || inet_pton(AF_INET, argv[1], &server.sin_addr) != 1) {
		fprintf(stderr, "usage: crowd ADDRESS PORT CLIENTS FLYING\n");
		return 2;
	}
	server.sin_family = AF_INET;
	server.sin_port = htons((uint16_t)atoi(argv[2]));
	n_clients = (unsigned int)atoi(argv[3]);
	n_flying = (unsigned int)atoi(argv[4]);
	setvbuf(stdout, NULL, _IOLBF, 0);
	getrlimit(RLIMIT_NOFILE, &rl);
	rl.rlim_cur = rl.rlim_max;
	setrlimit(RLIMIT_NOFILE, &rl);
	if (n_flying > n_clients || rl.rlim_cur < n_clients + 16) {
		errno = EMFILE;
		die("so many clients");
	}
	clients = calloc(n_clients, sizeof(*clients));
	ep = epoll_create1(EPOLL_CLOEXEC);
	if (!clients || ep < 0)
		die("start");
	for (unsigned int i = 0; i < n_clients; i++)
		clients[i].fd = -1;
	run((long)n_clients);
	if (lost || failed) {
		fprintf(stderr, "crowd: %u connections lost, %u requests failed\n", lost, failed);
		return 1;
	}
	printf("idle\n");
	while (fgets(line, sizeof(line), stdin)) {
		if (strcmp(line, "fly\n") == 0) {
			for (unsigned int i = 0; i < n_flying; i++) {
				struct client *c = &clients[(uint64_t)i * n_clients / n_flying];	/* evenly among the others */

				c->flying = true;
				ask(c);
			}
			run(-1);
			printf("flying\n");
		} else if (strcmp(line, "reconnect\n") == 0) {
			storm = true;
			answered = failed = late = 0;
			for (unsigned int i = 0; i < n_clients; i++) {
				if (clients[i].fd >= 0)
					close(clients[i].fd);
				clients[i].fd = -1;
				clients[i].state = DOWN;
			}
			storm_ns = now_ns();
			run((long)n_clients);
			printf("first %" PRIu64 " all %" PRIu64 " %u %u\n", first_ns, now_ns(), late, failed);
		} else {
			break;
		}
	}
	return 0;
}
