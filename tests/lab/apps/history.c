/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * history [-p PORT] [-k http|resp] [-w WRITERS] [-r READERS] [-i IDLERS] [-t TIMEOUT_MS] [-a FIRST] [-x] [-D DELAY_MS] [-Z BYTES]
 *         [-B BYTES] [-P PAUSE_MS] [-R RUN] [-o FILE] [-V ADDRESS:PORT] ADDRESS
 *
 * The history checker: clients write unique ids and read back, through any number of faults, and at the end every acknowledged
 * write must be there exactly once, and no read may ever have gone back in time.
 *
 *   http  writer W books to account W of the lab's bank, one id after the other. An id without an answer is repeated with the same
 *         Idempotency-Key until it has one; with -x no key is sent and nothing is repeated: the id stays unknown (0 or 1 times).
 *   resp  writer W appends to list h:RUN:W of a Redis; what has no answer stays unknown: the list tells at the end (0 or 1 times).
 * -a: the first account used (a run needs accounts that nobody else writes). Readers ask for the number of writes in a random account: never less than what any finished read showed, or any write was
 * acknowledged with, before this read began. Idlers hold connections open and come back at once when they lose them (reconnect storm).
 * -D, -Z: the bank answers that late, that large; -B with -P: a request body of that size, sent in two halves that far apart.
 *
 * Lines on standard output: "first TIME" (a write was acknowledged), "mark TIME NAME". On standard input: "mark NAME" (longest times without an answer are counted anew), "quit" (writers finish, then the ledgers
 * are read and checked; -V asks there instead of at ADDRESS). One JSON object goes to FILE (or standard output).
 * Exit 0: nothing wrong; 1: a violation, each told on standard error; 2: could not do it.
 */
#include <config.h>
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_WRITERS = 1024, MAX_TOLD = 20, GRACE_S = 60 };
enum kind { WRITER, READER, IDLER };
enum phase { DOWN, CONNECTING, SENDING, PAUSED, WAITING, RESTING };

struct client {
	enum kind kind;
	enum phase phase;
	unsigned account;
	int fd;
	uint64_t since_ns, due_ns, born_ns; /* of the phase; next thing to do; when this operation was first tried */
	char *out;
	size_t out_len, out_at, pause_at;
	char in[1024];
	size_t have;
	size_t body_left;
	bool head_done, last;
	int status;
	uint32_t floor; /* reader: what it must not fall below */
	bool finished;
};

static struct {
	bool resp, unkeyed;
	unsigned first, writers, readers, idlers, delay_ms, answer_bytes, body_bytes, pause_ms;
	uint64_t timeout_ns;
	const char *run, *out;
	char host[INET6_ADDRSTRLEN + 2];
	struct sockaddr_storage addr, verify;
	socklen_t addr_len, verify_len;
} opt = {.writers = 4, .readers = 2, .timeout_ns = 2000000000U, .run = "r"};

/* Per writer. tried: the newest id sent; state of each id: 0 unknown, 1 acknowledged. */
static struct account {
	uint32_t tried, acked, floor;
	uint8_t *state;
	uint32_t size;
} accounts[MAX_WRITERS];

static struct client *clients;
static unsigned n_clients;
static int epoll_fd;
static uint64_t n_acked, n_reads, n_repeats, n_lost_conns, n_unknown, status_count[600];
static uint64_t last_ack_ns, worst_ns, worst_read_ns, last_read_ns, first_ns;
static unsigned violations;
static char read_failure[128]; /* why a ledger could not be read */
static bool stopping;
static char mark[64] = "start";
static struct { char name[64]; uint64_t worst_ns, acked; } marks[256];
static unsigned n_marks;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "history: %s: %s\n", what, strerror(errno));
	exit(2);
}

__attribute__((format(printf, 1, 2)))
static void violation(const char *fmt, ...)
{
	va_list ap;

	if (++violations > MAX_TOLD)
		return;
	fputs("VIOLATION: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
}

/* --- operations ------------------------------------------------------------------------------------------------------- */
static uint8_t *id_state(struct account *a, uint32_t n)
{
	if (n >= a->size) {
		uint32_t size = a->size ? a->size : 256;
		while (size <= n)
			size *= 2;
		a->state = realloc(a->state, size);
		if (!a->state)
			die("memory");
		memset(a->state + a->size, 0, size - a->size);
		a->size = size;
	}
	return &a->state[n];
}

static void compose(struct client *c)
{
	struct account *a = &accounts[c->account];
	char query[64] = "", head[1024];
	int len;

	free(c->out);
	c->out = NULL;
	c->pause_at = 0;
	if (opt.delay_ms || opt.answer_bytes)
		snprintf(query, sizeof(query), "?delay=%u&size=%u", opt.delay_ms, opt.answer_bytes);
	c->floor = a->floor;
	if (c->kind != WRITER) {
		if (opt.resp) {
			char key[128];
			int k = snprintf(key, sizeof(key), "h:%s:%u", opt.run, c->account);
			len = snprintf(head, sizeof(head), "*2\r\n$4\r\nLLEN\r\n$%d\r\n%s\r\n", k, key);
		} else {
			len = snprintf(head, sizeof(head), "GET /account/%u HTTP/1.1\r\nHost: %s\r\n\r\n", opt.first + c->account, opt.host);
		}
		c->out = malloc((size_t)len);
		if (!c->out)
			die("memory");
		memcpy(c->out, head, (size_t)len);
		c->out_len = (size_t)len;
		return;
	}
	if (opt.resp) {
		char key[128], value[32];
		int k = snprintf(key, sizeof(key), "h:%s:%u", opt.run, c->account);
		int v = snprintf(value, sizeof(value), "%s-%u-%u", opt.run, c->account, a->tried);
		len = snprintf(head, sizeof(head), "*3\r\n$5\r\nRPUSH\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", k, key, v, value);
	} else {
		char key[128] = "";
		if (!opt.unkeyed)
			snprintf(key, sizeof(key), "Idempotency-Key: \"%s-%u-%u\"\r\n", opt.run, c->account, a->tried);
		len = snprintf(head, sizeof(head), "POST /credit/%u/1/%s-%u-%u%s HTTP/1.1\r\nHost: %s\r\n%sContent-Length: %u\r\n\r\n",
			       opt.first + c->account, opt.run, c->account, a->tried, query, opt.host, key, opt.body_bytes);
	}
	c->out_len = (size_t)len + (opt.resp ? 0 : opt.body_bytes);
	c->out = malloc(c->out_len);
	if (!c->out)
		die("memory");
	memcpy(c->out, head, (size_t)len);
	memset(c->out + len, 'b', c->out_len - (size_t)len);
	if (opt.body_bytes && opt.pause_ms)
		c->pause_at = (size_t)len + opt.body_bytes / 2;
}

static void want(struct client *c, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = c};

	if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &ev) < 0)
		die("epoll_ctl");
}

static void lose(struct client *c, uint64_t now)
{
	struct account *a = &accounts[c->account];
	bool sent = c->phase == SENDING || c->phase == PAUSED || c->phase == WAITING;

	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	if (sent || c->kind == IDLER)
		n_lost_conns++;
	if (c->kind == WRITER && sent && c->out_at) {
		if (opt.resp || opt.unkeyed) {
			n_unknown++;
			a->tried++; /* never said again */
			c->born_ns = 0;
			id_state(a, a->tried);
			if (stopping)
				c->finished = true;
		} else {
			n_repeats++;
		}
	}
	c->phase = DOWN;
	c->due_ns = now + (c->kind == IDLER ? 1000000U : 5000000U);
}

static void begin(struct client *c, uint64_t now)
{
	int on = 1;

	c->fd = socket(opt.addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0)
		die("socket");
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	struct epoll_event ev = {.events = EPOLLOUT, .data.ptr = c};
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &ev) < 0)
		die("epoll_ctl");
	c->phase = CONNECTING;
	c->due_ns = now + 300000000U; /* a lost SYN would be repeated after a second only */
	if (connect(c->fd, (struct sockaddr *)&opt.addr, opt.addr_len) < 0 && errno != EINPROGRESS)
		lose(c, now);
}

static void push(struct client *c, uint64_t now)
{
	size_t end = c->pause_at && c->out_at < c->pause_at ? c->pause_at : c->out_len;

	while (c->out_at < end) {
		ssize_t n = send(c->fd, c->out + c->out_at, end - c->out_at, MSG_NOSIGNAL);
		if (n < 0) {
			if (errno == EAGAIN)
				want(c, EPOLLIN | EPOLLOUT);
			else
				lose(c, now);
			return;
		}
		c->out_at += (size_t)n;
	}
	want(c, EPOLLIN);
	if (c->out_at < c->out_len) {
		c->phase = PAUSED;
		c->due_ns = now + opt.pause_ms * 1000000ULL;
	} else {
		c->phase = WAITING;
		c->due_ns = now + opt.timeout_ns + opt.delay_ms * 1000000ULL;
	}
}

static void operate(struct client *c, uint64_t now)
{
	struct account *a = &accounts[c->account];

	if (c->kind == READER)
		c->account = (unsigned)random() % opt.writers;
	if (c->kind == WRITER && !c->born_ns) {
		if (!a->tried) {
			a->tried = 1;
			id_state(a, 1);
		}
		c->born_ns = now;
	}
	compose(c);
	c->out_at = c->have = 0;
	c->head_done = c->last = false;
	c->status = 0;
	c->phase = SENDING;
	push(c, now);
}

static void rest(struct client *c, uint64_t now, uint64_t ns)
{
	c->phase = RESTING;
	c->due_ns = now + ns;
	want(c, EPOLLIN);
}

/* A whole answer; number: the count that it tells. */
static void answered(struct client *c, uint64_t now, bool ok, uint32_t number)
{
	struct account *a = &accounts[c->account];

	if (c->status > 0 && c->status < 600)
		status_count[c->status]++;
	if (c->kind != WRITER) {
		if (ok) {
			n_reads++;
			if (number < c->floor)
				violation("account %u: a read showed %u writes after %u had been shown or acknowledged", c->account, number, c->floor);
			if (number > a->tried)
				violation("account %u: a read showed %u writes, only %u were ever sent", c->account, number, a->tried);
			if (number > a->floor)
				a->floor = number;
			if (last_read_ns && now - last_read_ns > worst_read_ns)
				worst_read_ns = now - last_read_ns;
			last_read_ns = now;
		}
		rest(c, now, c->kind == IDLER ? UINT64_MAX / 2 : 2000000U);
		return;
	}
	if (!ok) { /* refused: an error is no acknowledgement */
		if (opt.resp || opt.unkeyed) {
			n_unknown++;
			a->tried++;
			id_state(a, a->tried);
			c->born_ns = 0;
			c->finished = stopping;
		} else {
			n_repeats++;
		}
		rest(c, now, 5000000U);
		return;
	}
	if (!n_acked) {
		printf("first %" PRIu64 "\n", now);
		fflush(stdout);
	}
	*id_state(a, a->tried) = 1;
	a->acked++;
	n_acked++;
	if (number > a->tried)
		violation("account %u: write %u was acknowledged as number %u", c->account, a->tried, number);
	else if (opt.resp || opt.unkeyed ? number <= c->floor : number != a->tried)
		violation("account %u: write %u was acknowledged as number %u; %u had been shown or acknowledged before it was sent", c->account,
			  a->tried, number, c->floor);
	if (number > a->floor)
		a->floor = number;
	if (last_ack_ns && now - last_ack_ns > worst_ns)
		worst_ns = now - last_ack_ns;
	last_ack_ns = now;
	a->tried++;
	id_state(a, a->tried);
	c->born_ns = 0;
	if (stopping)
		c->finished = true;
	if (c->last)
		lose(c, now);
	else
		rest(c, now, 0);
}

static void take(struct client *c, uint64_t now)
{
	if (opt.resp) {
		char *end = memmem(c->in, c->have, "\r\n", 2);
		if (!end)
			return;
		*end = '\0';
		bool ok = c->in[0] == ':';
		c->status = ok ? 200 : 500;
		answered(c, now, ok, ok ? (uint32_t)strtoul(c->in + 1, NULL, 10) : 0);
		return;
	}
	if (!c->head_done) {
		char *end = memmem(c->in, c->have, "\r\n\r\n", 4);
		if (!end)
			return;
		*end = '\0';
		char *field = strcasestr(c->in, "\r\ncontent-length:");
		c->status = c->have > 12 ? atoi(c->in + 9) : 0;
		c->last = strcasestr(c->in, "\r\nconnection: close") != NULL;
		c->body_left = field ? strtoul(field + 17, NULL, 10) : 0;
		c->head_done = true;
		size_t head = (size_t)(end - c->in) + 4;
		memmove(c->in, c->in + head, c->have - head);
		c->have -= head;
	}
	/* the first line of the body is kept, padding behind it is thrown away */
	if (c->have < c->body_left) {
		if (c->have > 512) {
			c->body_left -= c->have - 512;
			c->have = 512;
		}
		return;
	}
	c->in[c->have < sizeof(c->in) ? c->have : sizeof(c->in) - 1] = '\0';
	char *count = strstr(c->in, " count ");
	bool ok = c->status == 200 && count;
	answered(c, now, ok, ok ? (uint32_t)strtoul(count + 7, NULL, 10) : 0);
}

static void on_event(struct client *c, uint32_t events, uint64_t now)
{
	if (c->phase == CONNECTING) {
		int err = 0;
		socklen_t len = sizeof(err);
		getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len);
		if (err)
			lose(c, now);
		else
			operate(c, now);
		return;
	}
	if (events & EPOLLOUT && c->phase == SENDING)
		push(c, now);
	if (c->phase == DOWN || !(events & (EPOLLIN | EPOLLERR | EPOLLHUP)))
		return;
	for (;;) {
		ssize_t n = read(c->fd, c->in + c->have, sizeof(c->in) - 1 - c->have);
		if (n < 0 && errno == EAGAIN)
			return;
		if (n <= 0 || c->phase == RESTING) {
			lose(c, now); /* closed, or bytes that nobody asked for */
			return;
		}
		c->have += (size_t)n;
		take(c, now);
		if (c->phase != WAITING && c->phase != SENDING && c->phase != PAUSED)
			return;
	}
}

static void on_time(struct client *c, uint64_t now)
{
	switch (c->phase) {
	case DOWN:
		if (!c->finished && !(stopping && c->kind != WRITER))
			begin(c, now);
		else
			c->due_ns = UINT64_MAX;
		break;
	case RESTING:
		if (c->finished || (stopping && c->kind != WRITER))
			c->due_ns = UINT64_MAX;
		else
			operate(c, now);
		break;
	case PAUSED:
		c->phase = SENDING;
		c->pause_at = 0;
		push(c, now);
		break;
	default:
		lose(c, now);
	}
}

/* --- the end ---------------------------------------------------------------------------------------------------------- */
static int ask_whole(const char *request, size_t len, char **ret, size_t *ret_len)
{
	const struct sockaddr *addr = (struct sockaddr *)(opt.verify_len ? &opt.verify : &opt.addr);
	int fd = socket(addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval limit = {.tv_sec = 5};
	char *buf = NULL;
	size_t have = 0, size = 0;

	if (fd < 0)
		die("socket");
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	if (connect(fd, addr, opt.verify_len ? opt.verify_len : opt.addr_len) < 0 || send(fd, request, len, MSG_NOSIGNAL) != (ssize_t)len) {
		snprintf(read_failure, sizeof(read_failure), "connect or send: %s", strerror(errno));
		close(fd);
		return -1;
	}
	for (;;) {
		if (size - have < 65536) {
			size = size ? 2 * size : 1 << 17;
			buf = realloc(buf, size);
			if (!buf)
				die("memory");
		}
		ssize_t n = read(fd, buf + have, size - have - 1);
		if (n < 0) {
			snprintf(read_failure, sizeof(read_failure), "%s after %zu bytes", strerror(errno), have);
			free(buf);
			close(fd);
			return -1;
		}
		if (n == 0)
			break;
		have += (size_t)n;
		if (opt.resp && have > 7 && !memcmp(buf + have - 7, "+PONG\r\n", 7))
			break;
	}
	close(fd);
	buf[have] = '\0';
	*ret = buf;
	*ret_len = have;
	return 0;
}

static int verify_account(unsigned w)
{
	struct account *a = &accounts[w];
	char request[256], *text, *line, *rest, prefix[64];
	size_t len;
	uint32_t last = 0, there = 0;
	int n;

	if (opt.resp)
		n = snprintf(request, sizeof(request), "LRANGE h:%s:%u 0 -1\r\nPING\r\n", opt.run, w);
	else
		n = snprintf(request, sizeof(request), "GET /ledger/%u HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", opt.first + w, opt.host);
	if (ask_whole(request, (size_t)n, &text, &len) < 0)
		return -1;
	if (!opt.resp && strncmp(text, "HTTP/1.1 200", 12)) {
		snprintf(read_failure, sizeof(read_failure), "%zu bytes: %.60s", len, text);
		free(text);
		return -1;
	}
	uint8_t *seen = calloc(a->tried + 2, 1);
	if (!seen)
		die("memory");
	n = snprintf(prefix, sizeof(prefix), "%s-%u-", opt.run, w);
	for (rest = text; (line = strsep(&rest, "\n"));) {
		if (strncmp(line, prefix, (size_t)n))
			continue; /* head of the answer, lengths, ids of earlier runs */
		uint32_t number = (uint32_t)strtoul(line + n, NULL, 10);
		if (!number || number > a->tried) {
			violation("account %u: id %u was never sent", w, number);
			continue;
		}
		if (seen[number]++)
			violation("account %u: id %u is there %u times", w, number, seen[number]);
		if (number < last)
			violation("account %u: id %u stands behind %u", w, number, last);
		last = number;
		there++;
	}
	for (uint32_t i = 1; i <= a->tried; i++)
		if (*id_state(a, i) && !seen[i])
			violation("account %u: id %u was acknowledged and is lost", w, i);
	if (there < a->floor)
		violation("account %u: %u writes are there, %u had been shown", w, there, a->floor);
	free(seen);
	free(text);
	return 0;
}

static void note_mark(void)
{
	if (n_marks < 256) {
		snprintf(marks[n_marks].name, sizeof(marks[0].name), "%s", mark);
		marks[n_marks].worst_ns = worst_ns;
		marks[n_marks++].acked = n_acked;
	}
}

static void report(bool verified)
{
	FILE *f = opt.out ? fopen(opt.out, "we") : stdout;

	if (!f)
		die(opt.out);
	fprintf(f, "{\"acked\":%" PRIu64 ",\"reads\":%" PRIu64 ",\"repeats\":%" PRIu64 ",\"unknown\":%" PRIu64 ",\"lost_connections\":%" PRIu64
		",\"seconds\":%.1f,\"verified\":%s,\"violations\":%u,\"status\":{", n_acked, n_reads, n_repeats, n_unknown, n_lost_conns,
		(double)(now_ns() - first_ns) / 1e9, verified ? "true" : "false", violations);
	const char *comma = "";
	for (unsigned i = 0; i < 600; i++)
		if (status_count[i]) {
			fprintf(f, "%s\"%u\":%" PRIu64, comma, i, status_count[i]);
			comma = ",";
		}
	fprintf(f, "},\"marks\":[");
	for (unsigned i = 0; i < n_marks; i++)
		fprintf(f, "%s{\"name\":\"%s\",\"worst_write_gap_ms\":%.1f,\"acked\":%" PRIu64 "}", i ? "," : "", marks[i].name,
			(double)marks[i].worst_ns / 1e6, marks[i].acked);
	fprintf(f, "]}\n");
	if (f != stdout)
		fclose(f);
}

static bool on_input(void)
{
	static char line[512];
	static size_t have;
	ssize_t n = read(0, line + have, sizeof(line) - 1 - have);
	char *end;

	if (n <= 0)
		return false;
	have += (size_t)n;
	line[have] = '\0';
	while ((end = strchr(line, '\n'))) {
		*end = '\0';
		if (!strcmp(line, "quit"))
			return false;
		if (!strncmp(line, "mark ", 5)) {
			note_mark();
			worst_ns = 0;
			snprintf(mark, sizeof(mark), "%.63s", line + 5);
			printf("mark %" PRIu64 " %s\n", now_ns(), mark);
			fflush(stdout);
		}
		have -= (size_t)(end + 1 - line);
		memmove(line, end + 1, have + 1);
	}
	if (have == sizeof(line) - 1)
		have = 0;
	return true;
}

static bool all_finished(void)
{
	for (unsigned i = 0; i < opt.writers; i++)
		if (!clients[i].finished)
			return false;
	return true;
}

static void usage(void)
{
	fprintf(stderr, "usage: history [-p PORT] [-k http|resp] [-w WRITERS] [-r READERS] [-i IDLERS] [-t TIMEOUT_MS] [-a FIRST] [-x] "
		"[-D DELAY_MS] [-Z BYTES] [-B BYTES] [-P PAUSE_MS] [-R RUN] [-o FILE] [-V ADDRESS:PORT] ADDRESS\n");
	exit(2);
}

static socklen_t parse_address(const char *text, uint16_t port, struct sockaddr_storage *ret)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)ret;

	memset(ret, 0, sizeof(*ret));
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		return sizeof(*v4);
	}
	if (inet_pton(AF_INET6, text, &v6->sin6_addr) != 1)
		usage();
	v6->sin6_family = AF_INET6;
	v6->sin6_port = htons(port);
	return sizeof(*v6);
}

static unsigned count_arg(const char *text, unsigned long max)
{
	char *end;
	unsigned long v = strtoul(text, &end, 10);

	if (!*text || *end || v > max)
		usage();
	return (unsigned)v;
}

int main(int argc, char **argv)
{
	uint16_t port = 80;
	int c;

	while ((c = getopt(argc, argv, "p:k:w:r:i:t:a:xD:Z:B:P:R:o:V:")) != -1) {
		switch (c) {
		case 'p': port = (uint16_t)count_arg(optarg, 65535); break;
		case 'k':
			if (strcmp(optarg, "resp") && strcmp(optarg, "http"))
				usage();
			opt.resp = *optarg == 'r';
			break;
		case 'w': opt.writers = count_arg(optarg, MAX_WRITERS); break;
		case 'r': opt.readers = count_arg(optarg, 1024); break;
		case 'i': opt.idlers = count_arg(optarg, 20000); break;
		case 't': opt.timeout_ns = count_arg(optarg, 600000) * 1000000ULL; break;
		case 'a': opt.first = count_arg(optarg, 4095); break;
		case 'x': opt.unkeyed = true; break;
		case 'D': opt.delay_ms = count_arg(optarg, 60000); break;
		case 'Z': opt.answer_bytes = count_arg(optarg, 16 << 20); break;
		case 'B': opt.body_bytes = count_arg(optarg, 16 << 20); break;
		case 'P': opt.pause_ms = count_arg(optarg, 60000); break;
		case 'R': opt.run = optarg; break;
		case 'o': opt.out = optarg; break;
		case 'V': {
			char *colon = strrchr(optarg, ':');
			if (!colon)
				usage();
			*colon = '\0';
			opt.verify_len = parse_address(optarg, (uint16_t)count_arg(colon + 1, 65535), &opt.verify);
			break;
		}
		default: usage();
		}
	}
	if (optind + 1 != argc || !opt.writers)
		usage();
	opt.addr_len = parse_address(argv[optind], port, &opt.addr);
	snprintf(opt.host, sizeof(opt.host), strchr(argv[optind], ':') ? "[%s]" : "%s", argv[optind]);
	signal(SIGPIPE, SIG_IGN);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	struct epoll_event in = {.events = EPOLLIN, .data.ptr = NULL};
	if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, 0, &in) < 0)
		die("standard input must be a pipe");
	n_clients = opt.writers + opt.readers + opt.idlers;
	clients = calloc(n_clients, sizeof(*clients));
	if (!clients)
		die("memory");
	first_ns = now_ns();
	for (unsigned i = 0; i < n_clients; i++) {
		clients[i] = (struct client){.fd = -1, .kind = i < opt.writers ? WRITER : i < opt.writers + opt.readers ? READER : IDLER,
					     .account = i % opt.writers, .due_ns = first_ns};
	}
	uint64_t stop_ns = UINT64_MAX;
	while (!(stopping && (all_finished() || now_ns() > stop_ns))) {
		struct epoll_event ev[256];
		uint64_t now = now_ns(), due = UINT64_MAX;
		for (unsigned i = 0; i < n_clients; i++) {
			if (clients[i].due_ns <= now)
				on_time(&clients[i], now);
			if (clients[i].due_ns < due)
				due = clients[i].due_ns;
		}
		int n = epoll_wait(epoll_fd, ev, 256, due == UINT64_MAX ? 100 : due <= now ? 0 : due - now > 100000000U ? 100 : (int)((due - now) / 1000000) + 1);
		if (n < 0 && errno != EINTR)
			die("epoll_wait");
		now = now_ns();
		for (int i = 0; i < n; i++) {
			struct client *who = ev[i].data.ptr;
			if (who) {
				if (who->phase != DOWN)
					on_event(who, ev[i].events, now);
			} else if (!stopping && !on_input()) {
				stopping = true;
				stop_ns = now + GRACE_S * 1000000000ULL;
				note_mark();
				if (epoll_ctl(epoll_fd, EPOLL_CTL_DEL, 0, NULL) < 0)
					die("epoll_ctl");
			}
		}
	}
	if (!all_finished())
		violation("a write was not answered within %d s of the end", GRACE_S);
	for (unsigned i = 0; i < n_clients; i++)
		if (clients[i].fd >= 0)
			close(clients[i].fd);
	bool verified = true;
	for (unsigned w = 0; w < opt.writers; w++) {
		int tries = 0;
		while (verify_account(w) < 0)
			if (++tries == 20 || poll(NULL, 0, 250) < 0) {
				violation("account %u: cannot be read: %s", w, read_failure);
				verified = false;
				break;
			}
	}
	report(verified);
	return violations || !n_acked ? 1 : 0;
}
