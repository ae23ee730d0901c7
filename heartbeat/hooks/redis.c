/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * redis-state export|import [PORT]: the application state of a Redis (or Valkey), for a pair whose relay mirrors it.
 *
 * Run by vmpair-relay as the `export` and `import` hooks of a pair; the Redis is at VMPAIR_BACKEND, port 6379
 * unless told.
 *   export  writes an RDB to standard output. It is the state of the moment at which the first byte comes out: SYNC forks then.
 *   import  reads an RDB from standard input and has Redis load it, by playing its primary for as long as that takes: REPLICAOF to
 *           a socket of ours, full resynchronisation, REPLICAOF NO ONE. Works over the network with an unmodified Redis.
 * Source: redis.io, "Redis replication" (SYNC, PSYNC, diskless bulk transfer with an end mark of 40 bytes).
 */
#include <config.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { IO_LIMIT_MS = 10000, LOAD_LIMIT_MS = 120000, MARK = 40, CHUNK = 65536 };

static const char *address, *port;

__attribute__((noreturn)) static void fail(const char *what)
{
	fprintf(stderr, "redis-state: Redis at %s port %s: %s%s%s\n", address, port, what, errno ? ": " : "",
		errno ? strerror(errno) : "");
	exit(1);
}

static void wait_for(int fd, short events, int limit_ms)
{
	struct pollfd p = {.fd = fd, .events = events};
	int n = poll(&p, 1, limit_ms);

	if (n == 0)
		errno = ETIMEDOUT;
	if (n <= 0)
		fail("waiting");
}

static size_t take(int fd, void *buf, size_t size)
{
	wait_for(fd, POLLIN, IO_LIMIT_MS);
	ssize_t n = read(fd, buf, size);
	if (n < 0)
		fail("read");
	if (n == 0) {
		errno = 0;
		fail("the connection ended too early");
	}
	return (size_t)n;
}

static void put(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len) {
		wait_for(fd, POLLOUT, IO_LIMIT_MS);
		ssize_t n = write(fd, p, len);
		if (n < 0)
			fail("write");
		p += n;
		len -= (size_t)n;
	}
}

static void say(int fd, const char *text)
{
	put(fd, text, strlen(text));
}

/* One line without its end; blank lines (Redis sends them to keep a replica waiting) are skipped. */
static void line(int fd, char *buf, size_t size)
{
	size_t have = 0;

	for (;;) {
		char c;
		take(fd, &c, 1);
		if (c == '\r')
			continue;
		if (c == '\n' && have)
			break;
		if (c == '\n')
			continue;
		if (have == size - 1) {
			errno = EMSGSIZE;
			fail("line");
		}
		buf[have++] = c;
	}
	buf[have] = '\0';
}

static int dial(void)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV}, *ai;
	int rc = getaddrinfo(address, port, &hints, &ai);

	if (rc) {
		fprintf(stderr, "redis-state: address %s, port %s: %s\n", address, port, gai_strerror(rc));
		exit(1);
	}
	int fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, ai->ai_addr, ai->ai_addrlen) < 0)
		fail("connect");
	freeaddrinfo(ai);
	return fd;
}

static void ask(int fd, const char *command, char *answer, size_t size)
{
	say(fd, command);
	line(fd, answer, size);
	if (answer[0] == '-') {
		errno = 0;
		fail(answer);
	}
}

static void export_state(void)
{
	static char buf[CHUNK + MARK];
	char head[128], old_delay[64] = "";
	int fd = dial();

	/* without this Redis waits some seconds for further replicas before it forks */
	say(fd, "CONFIG GET repl-diskless-sync-delay\r\n");
	line(fd, head, sizeof(head));
	if (!strcmp(head, "*2")) {
		line(fd, head, sizeof(head)); /* $27 */
		line(fd, head, sizeof(head));
		line(fd, head, sizeof(head)); /* $1 */
		line(fd, old_delay, sizeof(old_delay));
	}
	if (old_delay[0])
		ask(fd, "CONFIG SET repl-diskless-sync-delay 0\r\n", head, sizeof(head));
	say(fd, "SYNC\r\n");
	line(fd, head, sizeof(head));
	if (head[0] != '$') {
		errno = 0;
		fail(head);
	}
	size_t have = 0;
	if (!strncmp(head, "$EOF:", 5)) {
		if (strlen(head + 5) != MARK) {
			errno = EPROTO;
			fail("end mark");
		}
		while (have < MARK || memcmp(buf + have - MARK, head + 5, MARK)) {
			if (have > MARK) { /* the last bytes may be the mark's beginning */
				put(STDOUT_FILENO, buf, have - MARK);
				memmove(buf, buf + have - MARK, MARK);
				have = MARK;
			}
			have += take(fd, buf + have, CHUNK);
		}
		put(STDOUT_FILENO, buf, have - MARK);
	} else {
		unsigned long long left = strtoull(head + 1, NULL, 10);
		while (left) {
			size_t n = take(fd, buf, left < CHUNK ? (size_t)left : CHUNK);
			put(STDOUT_FILENO, buf, n);
			left -= n;
		}
	}
	close(fd);
	if (old_delay[0]) {
		char set[128];
		fd = dial();
		snprintf(set, sizeof(set), "CONFIG SET repl-diskless-sync-delay %.20s\r\n", old_delay);
		ask(fd, set, head, sizeof(head));
		close(fd);
	}
}

/* The RDB in a file without a name, for its length must be known before it is sent. */
static int gather(off_t *ret_len)
{
	static char buf[CHUNK];
	int fd = memfd_create("rdb", MFD_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		fail("memfd");
	*ret_len = 0;
	while ((n = read(STDIN_FILENO, buf, sizeof(buf))) > 0) {
		if (write(fd, buf, (size_t)n) != n)
			fail("memory");
		*ret_len += n;
	}
	if (n < 0)
		fail("standard input");
	return fd;
}

static int listen_near(int control, char *ret_address, size_t size, char *ret_port, size_t port_size)
{
	struct sockaddr_storage self;
	socklen_t len = sizeof(self);

	if (getsockname(control, (struct sockaddr *)&self, &len) < 0)
		fail("own address");
	if (self.ss_family == AF_INET)
		((struct sockaddr_in *)&self)->sin_port = 0;
	else
		((struct sockaddr_in6 *)&self)->sin6_port = 0;
	int fd = socket(self.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&self, len) < 0 || listen(fd, 1) < 0 ||
	    getsockname(fd, (struct sockaddr *)&self, &len) < 0)
		fail("listen");
	if (getnameinfo((struct sockaddr *)&self, len, ret_address, (socklen_t)size, ret_port, (socklen_t)port_size,
			NI_NUMERICHOST | NI_NUMERICSERV))
		fail("own address");
	return fd;
}

/* One command: an array of bulk strings. Its first two words go to `words`. */
static void command(int fd, char words[2][64])
{
	char text[512];

	line(fd, text, sizeof(text));
	unsigned long n = text[0] == '*' ? strtoul(text + 1, NULL, 10) : 0;
	if (n == 0 || n > 64) {
		errno = EPROTO;
		fail("command of the replica");
	}
	for (unsigned long i = 0; i < n; i++) {
		line(fd, text, sizeof(text)); /* $LENGTH */
		line(fd, text, sizeof(text));
		if (i < 2)
			snprintf(words[i], sizeof(words[i]), "%.63s", text);
	}
}

/* Redis asks as a replica does, until it wants the data. */
static void serve_replica(int fd, int rdb, off_t len)
{
	char words[2][64], head[128];

	do {
		command(fd, words);
		if (!strcasecmp(words[0], "PING"))
			say(fd, "+PONG\r\n");
		else if (strcasecmp(words[0], "PSYNC") && strcasecmp(words[0], "SYNC"))
			say(fd, "+OK\r\n"); /* REPLCONF, AUTH */
	} while (strcasecmp(words[0], "PSYNC") && strcasecmp(words[0], "SYNC"));
	snprintf(head, sizeof(head), "+FULLRESYNC %040d 0\r\n$%lld\r\n", 1, (long long)len);
	say(fd, head);
	for (off_t at = 0; at < len;) {
		static char buf[CHUNK];
		ssize_t n = pread(rdb, buf, sizeof(buf), at);
		if (n <= 0)
			fail("memory");
		put(fd, buf, (size_t)n);
		at += n;
	}
}

static void import_state(void)
{
	char own[64], own_port[16], text[256];
	off_t len;
	int rdb = gather(&len), control = dial();
	int listener = listen_near(control, own, sizeof(own), own_port, sizeof(own_port));

	snprintf(text, sizeof(text), "REPLICAOF %s %s\r\n", own, own_port);
	ask(control, text, text, sizeof(text));
	wait_for(listener, POLLIN, IO_LIMIT_MS);
	int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (fd < 0)
		fail("accept");
	serve_replica(fd, rdb, len);

	/* loaded when the link is up and no transfer is under way */
	for (int waited_ms = 0;; waited_ms += 10) {
		static char info[16384];
		size_t have = 0;
		say(control, "INFO replication\r\n");
		line(control, text, sizeof(text));
		if (text[0] == '$') {
			size_t want = strtoul(text + 1, NULL, 10) + 2;
			if (want >= sizeof(info)) {
				errno = EMSGSIZE;
				fail("INFO");
			}
			while (have < want)
				have += take(control, info + have, want - have);
			info[have] = '\0';
			if (strstr(info, "master_link_status:up") && strstr(info, "master_sync_in_progress:0"))
				break;
		} /* else -LOADING */
		if (waited_ms >= LOAD_LIMIT_MS) {
			errno = ETIMEDOUT;
			fail("loading");
		}
		poll(NULL, 0, 10);
	}
	ask(control, "REPLICAOF NO ONE\r\n", text, sizeof(text));
	close(fd);
}

int main(int argc, char **argv)
{
	address = getenv("VMPAIR_BACKEND");
	port = argc > 2 ? argv[2] : "6379";
	if (argc < 2 || argc > 3 || (strcmp(argv[1], "export") && strcmp(argv[1], "import"))) {
		fprintf(stderr, "usage: redis-state export|import [PORT]   (the environment's VMPAIR_BACKEND is the address of the Redis)\n");
		return 2;
	}
	if (!address) {
		fprintf(stderr, "redis-state: VMPAIR_BACKEND is not set: it is the address of the Redis\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	errno = 0;
	if (argv[1][0] == 'e')
		export_state();
	else
		import_state();
	return 0;
}
