/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * bank [-p PORT] [-s ADDRESS:PORT] [-n NAME]: the account service of the lab, whose state can be checked to the unit.
 *
 *   POST /credit/ACCOUNT/AMOUNT/ID          -> "credit ID count N balance B": once per ID, repeated ones get the first answer again
 *   POST /transfer/FROM/TO/AMOUNT/ID        -> the same for two accounts; 409 when FROM has too little (also once per ID)
 *   GET  /account/N                         -> "account N count C balance B"
 *   GET  /ledger/N                          -> the ids that changed account N, a line each, in order
 *   GET  /total                             -> "entries E balance B"
 *   GET  /dump      POST /load              -> the whole state as text, and back (what the export and import hooks use)
 *   GET  /                                  -> "bank NAME entries E"
 * ?delay=MS answers that much later than it is done, ?size=BYTES pads the answer: faults between dispatch and answer, and in its
 * middle. Answers carry nothing that differs between two members, so that mirrored ones are equal.
 *
 * -s: no state of its own: hands the connections of clients on to the bank at ADDRESS:PORT, as a service does whose members share
 * a database. Linked statically for the guest; one thread.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_ACCOUNTS = 4096, MAX_ID = 95, MAX_HEAD = 8192, MAX_CONNS = 20000 };

struct buf {
	char *data;
	size_t len, size, at; /* at: sent so far */
};

struct conn {
	int fd;
	struct conn *peer;        /* -s: the other half */
	struct buf in, out;
	uint64_t delayed_ns;      /* the answer in `out` waits until then; 0: no */
	struct conn *next_delayed;
	bool closing, connecting, dead, watched_out;
};

struct entry {
	uint32_t account, other; /* other: the receiver of a transfer, else account */
	int64_t amount;          /* 0: refused */
	uint32_t count;          /* of the account, after it */
	int64_t balance;
	char id[MAX_ID + 1];
};

static struct account { uint32_t count; int64_t balance; } accounts[MAX_ACCOUNTS];
static struct entry *entries;
static uint32_t n_entries, max_entries, *table, table_size;
static const char *name = "bank";
static struct sockaddr_storage store;
static socklen_t store_len;
static int epoll_fd;
static struct conn *delayed, *graveyard;
static unsigned n_conns;

static void die(const char *what)
{
	fprintf(stderr, "bank: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000U + (uint64_t)ts.tv_nsec;
}

/* --- buffers ------------------------------------------------------------------------------------------------------ */
static void need(struct buf *b, size_t more)
{
	if (b->len + more + 1 <= b->size)
		return;
	size_t size = b->size ? b->size : 512;
	while (size < b->len + more + 1)
		size *= 2;
	b->data = realloc(b->data, size);
	if (!b->data)
		die("memory");
	b->size = size;
}

static void add(struct buf *b, const void *data, size_t len)
{
	need(b, len);
	memcpy(b->data + b->len, data, len);
	b->len += len;
	b->data[b->len] = '\0';
}

__attribute__((format(printf, 2, 3)))
static void addf(struct buf *b, const char *fmt, ...)
{
	char line[512];
	va_list ap;

	va_start(ap, fmt);
	int n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	add(b, line, (size_t)n < sizeof(line) ? (size_t)n : sizeof(line) - 1);
}

static void cut(struct buf *b, size_t len)
{
	memmove(b->data, b->data + len, b->len - len);
	b->len -= len;
	b->data[b->len] = '\0';
}

/* --- the accounts --------------------------------------------------------------------------------------------------- */
static uint32_t *slot(const char *id)
{
	uint64_t h = 14695981039346656037U;

	for (const char *p = id; *p; p++)
		h = (h ^ (unsigned char)*p) * 1099511628211U;
	for (uint32_t i = (uint32_t)h & (table_size - 1);; i = (i + 1) & (table_size - 1))
		if (!table[i] || !strcmp(entries[table[i] - 1].id, id))
			return &table[i];
}

static struct entry *entry_new(const char *id)
{
	if (n_entries == max_entries) {
		max_entries = max_entries ? 2 * max_entries : 1024;
		table_size = 2 * max_entries;
		entries = realloc(entries, max_entries * sizeof(*entries));
		free(table);
		table = calloc(table_size, sizeof(*table));
		if (!entries || !table)
			die("memory");
		for (uint32_t i = 0; i < n_entries; i++)
			*slot(entries[i].id) = i + 1;
	}
	struct entry *e = &entries[n_entries];
	*e = (struct entry){0};
	snprintf(e->id, sizeof(e->id), "%s", id);
	*slot(id) = ++n_entries;
	return e;
}

static struct entry *entry_find(const char *id)
{
	uint32_t *s = n_entries ? slot(id) : NULL;

	return s && *s ? &entries[*s - 1] : NULL;
}

static struct entry *book(uint32_t from, uint32_t to, int64_t amount, const char *id)
{
	struct entry *e = entry_find(id);
	if (e)
		return e;
	e = entry_new(id);
	e->account = from;
	e->other = to;
	if (from == to || accounts[from].balance >= amount) {
		e->amount = amount;
		if (from == to) {
			accounts[from].balance += amount;
		} else {
			accounts[from].balance -= amount;
			accounts[to].balance += amount;
			accounts[to].count++;
		}
	}
	e->count = ++accounts[from].count;
	e->balance = accounts[from].balance;
	return e;
}

static void dump(struct buf *b)
{
	addf(b, "bank 1 %" PRIu32 "\n", n_entries);
	for (uint32_t i = 0; i < n_entries; i++) {
		const struct entry *e = &entries[i];
		addf(b, "%" PRIu32 " %" PRIu32 " %" PRId64 " %s\n", e->account, e->other, e->amount, e->id);
	}
	addf(b, "end\n");
}

static bool load(char *text)
{
	unsigned long n;
	char *line, *rest = text;

	if (sscanf(text, "bank 1 %lu", &n) != 1 || !strstr(text, "\nend\n"))
		return false;
	memset(accounts, 0, sizeof(accounts));
	n_entries = 0;
	if (table)
		memset(table, 0, table_size * sizeof(*table));
	strsep(&rest, "\n");
	while ((line = strsep(&rest, "\n")) && strcmp(line, "end")) {
		uint32_t a, o;
		int64_t amount;
		char id[MAX_ID + 1];
		if (sscanf(line, "%" SCNu32 " %" SCNu32 " %" SCNd64 " %95s", &a, &o, &amount, id) != 4 || a >= MAX_ACCOUNTS ||
		    o >= MAX_ACCOUNTS)
			return false;
		if (amount) {
			book(a, o, amount, id);
			continue;
		}
		struct entry *e = entry_new(id); /* a refused one */
		e->account = a;
		e->other = o;
		e->count = ++accounts[a].count;
		e->balance = accounts[a].balance;
	}
	return n_entries == n;
}

/* --- HTTP -------------------------------------------------------------------------------------------------------------- */
static void answer(struct conn *c, int status, const struct buf *body, size_t pad)
{
	size_t len = body->len > pad ? body->len : pad;

	addf(&c->out, "HTTP/1.1 %d %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n\r\n", status,
	     status == 200 ? "OK" : status == 409 ? "Conflict" : status == 404 ? "Not Found" : "Bad Request", len);
	add(&c->out, body->data ? body->data : "", body->len);
	if (len > body->len) {
		need(&c->out, len - body->len);
		memset(c->out.data + c->out.len, '.', len - body->len);
		c->out.len += len - body->len;
	}
}

static void request(struct conn *c, const char *method, char *path, char *body)
{
	struct buf b = {0};
	char *query = strchr(path, '?'), id[MAX_ID + 1], *p;
	unsigned long delay_ms = 0, pad = 0;
	uint32_t from, to;
	int64_t amount;
	int status = 200;
	bool post = !strcmp(method, "POST");

	if (query) {
		*query++ = '\0';
		if ((p = strstr(query, "delay=")))
			delay_ms = strtoul(p + 6, NULL, 10);
		if ((p = strstr(query, "size=")))
			pad = strtoul(p + 5, NULL, 10);
	}
	if (pad > 64U << 20)
		pad = 64U << 20;
	if (post && sscanf(path, "/credit/%" SCNu32 "/%" SCNd64 "/%95[!-~]", &from, &amount, id) == 3 && from < MAX_ACCOUNTS && amount > 0) {
		const struct entry *e = book(from, from, amount, id);
		addf(&b, "credit %s count %" PRIu32 " balance %" PRId64 "\n", id, e->count, e->balance);
	} else if (post && sscanf(path, "/transfer/%" SCNu32 "/%" SCNu32 "/%" SCNd64 "/%95[!-~]", &from, &to, &amount, id) == 4 &&
		   from < MAX_ACCOUNTS && to < MAX_ACCOUNTS && from != to && amount > 0) {
		const struct entry *e = book(from, to, amount, id);
		status = e->amount ? 200 : 409;
		addf(&b, "transfer %s count %" PRIu32 " balance %" PRId64 "\n", id, e->count, e->balance);
	} else if (!post && sscanf(path, "/account/%" SCNu32, &from) == 1 && from < MAX_ACCOUNTS) {
		addf(&b, "account %" PRIu32 " count %" PRIu32 " balance %" PRId64 "\n", from, accounts[from].count, accounts[from].balance);
	} else if (!post && sscanf(path, "/ledger/%" SCNu32, &from) == 1 && from < MAX_ACCOUNTS) {
		for (uint32_t i = 0; i < n_entries; i++)
			if (entries[i].account == from || entries[i].other == from)
				addf(&b, "%s\n", entries[i].id);
	} else if (!post && !strcmp(path, "/total")) {
		int64_t sum = 0;
		for (unsigned i = 0; i < MAX_ACCOUNTS; i++)
			sum += accounts[i].balance;
		addf(&b, "entries %" PRIu32 " balance %" PRId64 "\n", n_entries, sum);
	} else if (!post && !strcmp(path, "/dump")) {
		dump(&b);
	} else if (post && !strcmp(path, "/load")) {
		if (load(body))
			addf(&b, "loaded %" PRIu32 "\n", n_entries);
		else
			status = 400;
	} else if (!post && !strcmp(path, "/")) {
		addf(&b, "bank %s entries %" PRIu32 "\n", name, n_entries);
	} else {
		status = 404;
	}
	answer(c, status, &b, pad);
	free(b.data);
	if (delay_ms) {
		c->delayed_ns = now_ns() + delay_ms * 1000000U;
		c->next_delayed = delayed;
		delayed = c;
	}
}

static void watch(struct conn *c, bool out)
{
	struct epoll_event ev = {.events = EPOLLIN | (out ? EPOLLOUT : 0), .data.ptr = c};

	if (out == c->watched_out)
		return;
	c->watched_out = out;
	if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &ev) < 0)
		die("epoll_ctl");
}

static void drop(struct conn *c)
{
	if (c->dead)
		return;
	c->dead = true;
	close(c->fd);
	n_conns--;
	for (struct conn **d = &delayed; *d; d = &(*d)->next_delayed)
		if (*d == c) {
			*d = c->next_delayed;
			break;
		}
	c->next_delayed = graveyard; /* events of this round may still name it */
	graveyard = c;
	if (c->peer) {
		c->peer->peer = NULL;
		drop(c->peer);
		c->peer = NULL;
	}
}

static void send_out(struct conn *c)
{
	while (!c->dead && !c->connecting && !c->delayed_ns && c->out.at < c->out.len) {
		ssize_t n = send(c->fd, c->out.data + c->out.at, c->out.len - c->out.at, MSG_NOSIGNAL);
		if (n < 0) {
			if (errno != EAGAIN)
				drop(c);
			else
				watch(c, true);
			return;
		}
		c->out.at += (size_t)n;
	}
	if (c->dead || c->connecting || c->out.at < c->out.len)
		return;
	c->out.at = c->out.len = 0;
	watch(c, false);
	if (c->closing)
		drop(c);
}

/* Requests in the order they came; the next one waits while an answer is delayed. */
static void take(struct conn *c)
{
	while (!c->dead && !c->delayed_ns && !c->closing && c->in.len) {
		char *end = memmem(c->in.data, c->in.len, "\r\n\r\n", 4);
		if (!end) {
			if (c->in.len > MAX_HEAD)
				drop(c);
			return;
		}
		size_t head = (size_t)(end - c->in.data) + 4, body = 0;
		char method[8], path[512], *field;
		*end = '\0';
		if ((field = strcasestr(c->in.data, "\r\ncontent-length:")))
			body = strtoul(field + 17, NULL, 10);
		bool last = strcasestr(c->in.data, "\r\nconnection: close") != NULL;
		bool ok = sscanf(c->in.data, "%7s %511s", method, path) == 2;
		*end = '\r';
		if (c->in.len < head + body)
			return;
		if (!ok) {
			drop(c);
			return;
		}
		char keep = c->in.data[head + body];
		c->in.data[head + body] = '\0';
		request(c, method, path, c->in.data + head);
		c->in.data[head + body] = keep;
		cut(&c->in, head + body);
		c->closing = last;
	}
	send_out(c);
}

static struct conn *conn_new(int fd, uint32_t events)
{
	struct conn *c = calloc(1, sizeof(*c));
	int on = 1;

	if (!c)
		die("memory");
	c->fd = fd;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	struct epoll_event ev = {.events = events, .data.ptr = c};
	c->watched_out = events & EPOLLOUT;
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
		die("epoll_ctl");
	n_conns++;
	return c;
}

static void accept_all(int listener)
{
	int fd;

	while (n_conns < MAX_CONNS && (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
		struct conn *c = conn_new(fd, EPOLLIN);
		if (!store_len)
			continue;
		int up = socket(store.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (up < 0) {
			drop(c);
			continue;
		}
		if (connect(up, (struct sockaddr *)&store, store_len) < 0 && errno != EINPROGRESS) {
			close(up);
			drop(c);
			continue;
		}
		c->peer = conn_new(up, EPOLLIN | EPOLLOUT);
		c->peer->peer = c;
		c->peer->connecting = true;
	}
}

static void readable(struct conn *c)
{
	for (;;) {
		need(&c->in, 16384);
		ssize_t n = read(c->fd, c->in.data + c->in.len, c->in.size - c->in.len - 1);
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0) {
			struct conn *p = c->peer;

			if (p && c->in.len) { /* its last words, read a moment ago, go on before it goes */
				add(&p->out, c->in.data, c->in.len);
				p->closing = true;
				p->peer = c->peer = NULL;
				send_out(p);
			}
			drop(c);
			return;
		}
		c->in.len += (size_t)n;
		c->in.data[c->in.len] = '\0';
		if (c->in.len > 128U << 20) {
			drop(c);
			return;
		}
	}
	if (c->peer) {
		add(&c->peer->out, c->in.data, c->in.len);
		c->in.len = 0;
		send_out(c->peer);
	} else {
		take(c);
	}
}

static void run(int listener)
{
	for (;;) {
		struct epoll_event ev[64];
		int wait_ms = -1;
		uint64_t now = now_ns();
		for (const struct conn *c = delayed; c; c = c->next_delayed) {
			int ms = c->delayed_ns > now ? (int)((c->delayed_ns - now) / 1000000) + 1 : 0;
			if (wait_ms < 0 || ms < wait_ms)
				wait_ms = ms;
		}
		int n = epoll_wait(epoll_fd, ev, 64, wait_ms);
		if (n < 0 && errno != EINTR)
			die("epoll_wait");
		for (int i = 0; i < n; i++) {
			struct conn *c = ev[i].data.ptr;
			if (!c) {
				accept_all(listener);
				continue;
			}
			if (c->dead)
				continue;
			if (c->connecting && ev[i].events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) {
				int err = 0;
				socklen_t len = sizeof(err);
				getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &err, &len);
				if (err) {
					drop(c);
					continue;
				}
				c->connecting = false;
				send_out(c);
			} else if (ev[i].events & EPOLLOUT) {
				send_out(c);
			}
			if (!c->dead && ev[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
				readable(c);
		}
		now = now_ns();
		for (struct conn **d = &delayed; *d;) {
			struct conn *c = *d;
			if (c->delayed_ns > now) {
				d = &c->next_delayed;
				continue;
			}
			*d = c->next_delayed;
			c->delayed_ns = 0;
			send_out(c);
			if (!c->dead)
				take(c);
			d = &delayed; /* take() may have put something in front */
		}
		while (graveyard) {
			struct conn *c = graveyard;
			graveyard = c->next_delayed;
			free(c->in.data);
			free(c->out.data);
			free(c);
		}
	}
}

static void usage(void)
{
	fprintf(stderr, "usage: bank [-p PORT] [-s ADDRESS:PORT] [-n NAME]\n");
	exit(2);
}

static void parse_store(char *text)
{
	char *colon = strrchr(text, ':');
	struct sockaddr_in *v4 = (struct sockaddr_in *)&store;
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&store;

	if (!colon)
		usage();
	*colon = '\0';
	uint16_t port = htons((uint16_t)strtoul(colon + 1, NULL, 10));
	if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = port;
		store_len = sizeof(*v4);
	} else if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = port;
		store_len = sizeof(*v6);
	} else {
		usage();
	}
}

int main(int argc, char **argv)
{
	uint16_t port = 8080;
	int opt, off = 0, on = 1;

	while ((opt = getopt(argc, argv, "p:s:n:")) != -1) {
		switch (opt) {
		case 'p':
			port = (uint16_t)strtoul(optarg, NULL, 10);
			break;
		case 's':
			parse_store(optarg);
			break;
		case 'n':
			name = optarg;
			break;
		default:
			usage();
		}
	}
	struct rlimit files = {2 * MAX_CONNS + 64, 2 * MAX_CONNS + 64};
	setrlimit(RLIMIT_NOFILE, &files); /* not root: fewer connections */
	signal(SIGPIPE, SIG_IGN);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct sockaddr_in6 any = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	if (epoll_fd < 0 || fd < 0 || setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off)) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) < 0 || bind(fd, (struct sockaddr *)&any, sizeof(any)) < 0 ||
	    listen(fd, 1024) < 0)
		die("listen");
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = NULL};
	if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
		die("epoll_ctl");
	run(fd);
}
