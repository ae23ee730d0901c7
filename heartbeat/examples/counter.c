/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A service that integrates libvmpair directly, without vmpair-relay: one counter, kept on two members in the mirror kind. Each member
 * executes every request itself, in the primary's order; what a client was answered is never lost, and what it repeats by its id is
 * not counted twice.
 *
 *   counter NODE CLIENT-PORT PEER-PORT     node 1 or 2; the member that is primary listens on PEER-PORT, the standby connects to it
 *
 * Clients send lines "ID N" and get "ID TOTAL". Who is primary is not decided here: lines on standard input say so, as vmpaird tells a
 * relay, and what it has to know is printed on standard output:
 *
 *   primary EPOCH | standby EPOCH | fence EPOCH | mode alone | mode wait OP | mode sync NODE MEMBER | member MEMBER
 *   ready EPOCH   | caught on|off NODE MEMBER OP | need-member | note TEXT
 *
 * To keep it short the members talk plain TCP on loopback: a real one uses TLS 1.3 with a pre-shared key and VMPAIR_SYNC_ALPN.
 *
 *   cc counter.c -o counter $(pkg-config --cflags --libs libvmpair)
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <vmpair/sync.h>

#define MAX_CLIENTS 64
#define LINE 200

struct client {
	int fd;			/* -1: free */
	uint64_t conn, epoch;
	uint32_t seq, waiting;	/* one request at a time; waiting: its sequence, 0 none */
	uint64_t ask_conn;	/* the request it waits for: its own, or the one whose id it repeats */
	uint32_t ask_seq;
	char in[LINE];
	size_t len;
};

static struct vmpair_session *s;
static struct client client[MAX_CLIENTS];
static uint64_t total;		/* the application's whole state */
static uint64_t epoch, conns;
static int client_fd = -1, peer_listen = -1, peer = -1;
static bool primary, import_bad;
static uint16_t peer_port;
static uint8_t node;

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static uint64_t random64(void)
{
	uint64_t r = 0;

	while (!r) {
		if (getrandom(&r, sizeof(r), 0) != sizeof(r))
			r = 0;
	}
	return r;
}

static int listen_on(uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 64) < 0) {
		perror("counter: listen");
		exit(1);
	}
	return fd;
}

/* --- the application ----------------------------------------------------------------------------------------------------------- */

/* "ID N": adds N. What it answers depends only on the requests before, so both members answer the same. */
static size_t apply(const struct vmpair_entry *e, char *answer, size_t size)
{
	const char *text = e->data, *blank = memchr(text, ' ', e->len);
	char number[24] = "";
	int n;

	if (blank && (size_t)(text + e->len - blank) < sizeof(number))
		memcpy(number, blank + 1, (size_t)(text + e->len - blank) - 1);
	total += strtoull(number, NULL, 10);
	n = snprintf(answer, size, "%.*s %" PRIu64 "\n", (int)e->id_len, (const char *)e->id, total);
	return (size_t)n < size ? (size_t)n : size - 1;
}

/* On both members: whatever is next in the order is executed. The answer is recorded (primary) or compared (standby). */
static void execute(void)
{
	struct vmpair_entry e;
	char answer[LINE + 32];

	while (vmpair_session_execute(s, &e)) {
		size_t n = apply(&e, answer, sizeof(answer));

		if (vmpair_session_answer(s, now_ns(), e.conn, e.seq, answer, n, VMPAIR_LAST, NULL) < 0) {
			fprintf(stderr, "counter: out of memory\n");
			exit(1);	/* this member's state can no longer be trusted to be whole */
		}
	}
}

/* --- clients ------------------------------------------------------------------------------------------------------------------- */
static void client_drop(struct client *c)
{
	if (c->fd < 0)
		return;
	close(c->fd);
	c->fd = -1;
	if (primary)
		vmpair_session_close(s, now_ns(), c->conn);
}

/* Output commit: what is answered and may leave, leaves. */
static void answer(struct client *c)
{
	struct vmpair_entry e;
	const void *p;
	size_t n;

	if (c->fd < 0 || !c->waiting || vmpair_session_entry(s, c->ask_conn, c->ask_seq, &e) < 0)
		return;
	if ((e.state != VMPAIR_ANSWERED && e.state != VMPAIR_FINISHED) || !vmpair_session_may_leave(s, e.answer_number))
		return;
	if (!e.kept || vmpair_session_stored(s, e.conn, e.seq, 0, &p, &n) < 0 || send(c->fd, p, n, MSG_NOSIGNAL) != (ssize_t)n) {
		client_drop(c);
		return;
	}
	c->waiting = 0;
	if (e.conn == c->conn)	/* the client closes or asks again when it has it; a service may wait for that */
		vmpair_session_done(s, now_ns(), e.conn, e.seq);
}

static void client_line(struct client *c, const char *line, size_t len)
{
	const char *blank = memchr(line, ' ', len);
	struct vmpair_request r = { .conn = c->conn, .seq = ++c->seq, .flags = VMPAIR_LAST | VMPAIR_HAS_ID, .id = line, .data = line, .len = len };
	struct vmpair_entry e;

	r.id_len = blank ? (size_t)(blank - line) : 0;
	if (!r.id_len || r.id_len > VMPAIR_ID_MAX) {
		client_drop(c);
		return;
	}
	c->ask_conn = r.conn;
	c->ask_seq = r.seq;
	if (vmpair_session_find(s, 0, r.id, r.id_len, &e) == 0) {	/* a repetition: the same answer, not counted again */
		c->ask_conn = e.conn;
		c->ask_seq = e.seq;
	} else if (vmpair_session_request(s, now_ns(), &r, NULL) < 0) {
		client_drop(c);		/* no memory: it comes again */
		return;
	}
	c->waiting = r.seq;
}

static void client_read(struct client *c)
{
	ssize_t n = recv(c->fd, c->in + c->len, sizeof(c->in) - c->len, 0);
	char *end;

	if (n == 0 || (n < 0 && errno != EAGAIN) || (n > 0 && c->len + (size_t)n == sizeof(c->in))) {
		client_drop(c);
		return;
	}
	c->len += n > 0 ? (size_t)n : 0;
	while (c->fd >= 0 && !c->waiting && (end = memchr(c->in, '\n', c->len))) {
		size_t used = (size_t)(end - c->in) + 1;

		client_line(c, c->in, used - 1);
		memmove(c->in, c->in + used, c->len -= used);
		execute();
		answer(c);
	}
}

static void client_accept(void)
{
	int fd = accept4(client_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

	for (unsigned int i = 0; fd >= 0 && i < MAX_CLIENTS; i++) {
		if (client[i].fd < 0 && primary) {
			client[i] = (struct client){ .fd = fd, .conn = epoch << 32 | ++conns };
			return;
		}
	}
	if (fd >= 0)
		close(fd);
}

static void clients_drop(void)
{
	for (unsigned int i = 0; i < MAX_CLIENTS; i++)
		client_drop(&client[i]);
}

/* --- the other member ---------------------------------------------------------------------------------------------------------- */
static void peer_close(const char *why)
{
	if (peer >= 0)
		close(peer);
	peer = -1;
	vmpair_session_link_down(s, why);
}

static void peer_up(int fd, bool initiator)
{
	int one = 1;

	peer_close("a newer connection");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (vmpair_session_link_up(s, now_ns(), initiator) < 0)
		close(fd);
	else
		peer = fd;
}

static void peer_connect(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(peer_port), .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0) {
		if (fd >= 0)
			close(fd);
		return;
	}
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
	peer_up(fd, true);
}

static void peer_read(void)
{
	char buf[16384];
	ssize_t n;

	while (peer >= 0 && vmpair_session_wants_input(s) && (n = recv(peer, buf, sizeof(buf), 0)) != 0) {
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0 || vmpair_session_input(s, now_ns(), buf, (size_t)n) < 0)
			break;
	}
	if (peer >= 0 && vmpair_session_wants_input(s))
		peer_close("closed by the other member");
}

static bool peer_write(void)	/* true: there is more, the socket is full */
{
	const void *p;
	size_t n;

	while (peer >= 0 && (n = vmpair_session_output(s, &p))) {
		ssize_t sent = send(peer, p, n, MSG_NOSIGNAL);

		if (sent < 0 && errno == EAGAIN)
			return true;
		if (sent < 0) {
			peer_close(strerror(errno));
			return false;
		}
		vmpair_session_output_done(s, now_ns(), (size_t)sent);
	}
	return false;
}

static void events(void)
{
	struct vmpair_event ev;

	while (vmpair_session_next_event(s, &ev)) {
		switch (ev.type) {
		case VMPAIR_EV_CAUGHT:
			printf("caught %s %u 0x%" PRIx64 " %" PRIu64 "\n", ev.on ? "on" : "off", ev.node, ev.member, ev.op);
			break;
		case VMPAIR_EV_NEED_MEMBER:
			printf("need-member\n");
			break;
		case VMPAIR_EV_NEED_EXPORT:	/* execute() leaves nothing half done, so the state belongs to now */
			if (vmpair_session_export_start(s) == 0)
				vmpair_session_export(s, &total, sizeof(total), true);
			break;
		case VMPAIR_EV_IMPORT:
			import_bad = ev.len != sizeof(total) || !ev.last;
			if (!import_bad)
				memcpy(&total, ev.data, sizeof(total));
			if (ev.last)
				vmpair_session_imported(s, now_ns(), !import_bad);
			break;
		case VMPAIR_EV_DIVERGED:
			printf("note the answers of record %" PRIu64 " differ\n", ev.number);
			break;
		case VMPAIR_EV_REFUSED:
		case VMPAIR_EV_LINK_LOST:
			printf("note %s\n", ev.reason);
			peer_write();
			peer_close(NULL);
			break;
		default:	/* HELD, EXECUTE, ROOM: looked after in the loop */
			break;
		}
	}
}

/* --- commands ------------------------------------------------------------------------------------------------------------------ */
static void command(const char *line)
{
	char verb[16] = "", word[3][24] = { "" };	/* numbers are 64 bits without a sign, in decimal or 0x... */
	uint64_t n[3];

	sscanf(line, "%15s %23s %23s %23s", verb, word[0], word[1], word[2]);
	for (unsigned int i = 0; i < 3; i++)
		n[i] = strtoull(word[i], NULL, 0);
	if (!strcmp(verb, "fence")) {
		vmpair_session_fence(s, n[0]);
		printf("ready %" PRIu64 "\n", n[0]);
	} else if (!strcmp(verb, "primary")) {
		peer_close("primary now");
		if (vmpair_session_primary(s, now_ns(), n[0]) < 0) {
			printf("note epoch %" PRIu64 " is over\n", n[0]);
			return;
		}
		primary = true;
		epoch = n[0];
		if (peer_listen < 0)
			peer_listen = listen_on(peer_port);
		execute();	/* what the old primary had accepted comes first */
	} else if (!strcmp(verb, "standby")) {
		clients_drop();
		primary = false;
		if (peer_listen >= 0)
			close(peer_listen);
		peer_listen = -1;
		peer_close("standby now");
		vmpair_session_standby(s, now_ns(), n[0]);
	} else if (!strcmp(verb, "member")) {
		vmpair_session_set_member(s, n[0]);
	} else if (!strcmp(verb, "mode") && !strcmp(word[0], "sync")) {
		vmpair_session_mode(s, VMPAIR_MODE_SYNC, 0, (uint8_t)n[1], n[2]);
	} else if (!strcmp(verb, "mode")) {
		vmpair_session_mode(s, !strcmp(word[0], "alone") ? VMPAIR_MODE_ALONE : VMPAIR_MODE_WAIT, n[1], 0, 0);
	} else {
		printf("note unknown command %s\n", verb);
	}
}

static bool commands(void)	/* false: nobody tells us anything any more */
{
	static char buf[512];
	static size_t len;
	ssize_t n = read(STDIN_FILENO, buf + len, sizeof(buf) - 1 - len);
	char *end;

	if (n <= 0)
		return false;
	len += (size_t)n;
	buf[len] = 0;
	while ((end = strchr(buf, '\n'))) {
		*end = 0;
		command(buf);
		len -= (size_t)(end + 1 - buf);
		memmove(buf, end + 1, len + 1);
	}
	return len < sizeof(buf) - 1;
}

int main(int argc, char **argv)
{
	struct vmpair_session_conf conf = { .pair = 0x636f756e746572, .kind = VMPAIR_MIRROR, .pristine = true, .can_export = true, .can_import = true };
	uint64_t next_connect = 0;

	if (argc != 4) {
		fprintf(stderr, "usage: counter NODE CLIENT-PORT PEER-PORT\n");
		return 2;
	}
	node = (uint8_t)atoi(argv[1]);
	peer_port = (uint16_t)atoi(argv[3]);
	conf.node = node;
	conf.member = random64();
	conf.random = random64();
	setvbuf(stdout, NULL, _IOLBF, 0);
	if (vmpair_session_new(&s, &conf) < 0) {
		fprintf(stderr, "counter: cannot make a session\n");
		return 1;
	}
	for (unsigned int i = 0; i < MAX_CLIENTS; i++)
		client[i].fd = -1;
	client_fd = listen_on((uint16_t)atoi(argv[2]));
	for (;;) {
		struct pollfd p[MAX_CLIENTS + 4] = { { STDIN_FILENO, POLLIN, 0 }, { client_fd, POLLIN, 0 }, { peer_listen, POLLIN, 0 } };
		struct vmpair_info info;
		uint64_t now, due;
		int wait_ms;

		events();
		execute();
		for (unsigned int i = 0; i < MAX_CLIENTS; i++)
			answer(&client[i]);
		p[3].events = (short)((vmpair_session_wants_input(s) ? POLLIN : 0) | (peer_write() ? POLLOUT : 0));
		p[3].fd = peer;		/* it may have been closed */
		for (unsigned int i = 0; i < MAX_CLIENTS; i++) {
			p[4 + i].fd = client[i].fd;
			p[4 + i].events = client[i].waiting ? 0 : POLLIN;
		}
		vmpair_session_info(s, &info);
		now = now_ns();
		due = vmpair_session_deadline(s);
		if (info.role == VMPAIR_STANDBY && peer < 0 && next_connect < due)
			due = next_connect;
		wait_ms = due == VMPAIR_NEVER ? -1 : due <= now ? 0 : (int)((due - now) / 1000000) + 1;
		if (poll(p, MAX_CLIENTS + 4, wait_ms) < 0 && errno != EINTR)
			return 1;
		if (p[0].revents && !commands())
			return 0;
		if (p[1].revents)
			client_accept();
		if (p[2].revents && peer_listen >= 0) {
			int fd = accept4(peer_listen, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

			if (fd >= 0)
				peer_up(fd, false);
		}
		if (p[3].revents && peer >= 0 && p[3].fd == peer)
			peer_read();
		for (unsigned int i = 0; i < MAX_CLIENTS; i++) {
			if (p[4 + i].revents && client[i].fd == p[4 + i].fd)
				client_read(&client[i]);
		}
		vmpair_session_tick(s, now_ns());	/* after everything that had come was read */
		vmpair_session_info(s, &info);
		if (info.role == VMPAIR_STANDBY && peer < 0 && now_ns() >= next_connect) {
			peer_connect();
			next_connect = now_ns() + 50000000;
		}
	}
}
