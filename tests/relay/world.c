/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/relay/world.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static char dir[64];

void die(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf("# ");
	vprintf(fmt, ap);
	printf("\n");
	va_end(ap);
	fflush(stdout);
	exit(1);
}

void check_(bool ok, const char *what, const char *file, int line)
{
	if (!ok)
		die("%s:%d: not so: %s", file, line, what);
}

uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

const char *world_dir(void)
{
	return dir;
}

static void world_end(void)
{
	char cmd[128];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", dir);
	if (dir[0] && system(cmd) != 0)
		printf("# %s stays\n", dir);
}

static void keys_write(const char *name, const char *text)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		die("%s: %s", path, strerror(errno));
	close(fd);
}

void world_init(void)
{
	struct ifreq ifr = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int s;

	signal(SIGPIPE, SIG_IGN);
	if (unshare(CLONE_NEWNET) < 0) {
		printf("1..0 # skipped: no network namespace: %s\n", strerror(errno));
		exit(77);
	}
	s = socket(AF_INET, SOCK_DGRAM, 0);
	if (s < 0 || ioctl(s, SIOCSIFFLAGS, &ifr) < 0)
		die("lo: %s", strerror(errno));
	close(s);
	strcpy(dir, "/tmp/vmpair-relay-test-XXXXXX");
	if (!mkdtemp(dir))
		die("mkdtemp: %s", strerror(errno));
	atexit(world_end);
	keys_write("keys", "key 1 00112233445566778899aabbccddeeff00112233445566778899aabbccddee01 send\n");
	keys_write("other", "key 1 00112233445566778899aabbccddeeff00112233445566778899aabbccddee02 send\n");
	keys_write("both", "key 1 00112233445566778899aabbccddeeff00112233445566778899aabbccddee01\n"
			   "key 7 ff112233445566778899aabbccddeeff00112233445566778899aabbccddee07 send\n");
}

/* --- the application --------------------------------------------------------------------------------------------------------- */
static int listen_on(int port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, 1024) < 0)
		die("port %d: %s", port, strerror(errno));
	return fd;
}

/* Connections of applications, so that a stop ends them too. */
static struct {
	pthread_mutex_t lock;
	struct app *a[4096];
} conns = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void conn_set(int fd, struct app *a)
{
	pthread_mutex_lock(&conns.lock);
	if (fd < 4096)
		conns.a[fd] = a;
	if (!a)
		close(fd);
	pthread_mutex_unlock(&conns.lock);
}

struct served {
	struct app *a;
	int fd;
	bool line;
};

static bool say(int fd, const char *p, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, p, len, MSG_NOSIGNAL);

		if (n <= 0)
			return false;
		p += n;
		len -= (size_t)n;
	}
	return true;
}

static bool ok_answer(int fd, const char *body)
{
	char text[512];
	int n = snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);

	return say(fd, text, (size_t)n);
}

static void reset(int fd)
{
	struct linger rst = { .l_onoff = 1 };

	setsockopt(fd, SOL_SOCKET, SO_LINGER, &rst, sizeof(rst));
}

/*
 * /n/NUMBER          executed[NUMBER]++, answers "NUMBER COUNT"        /slow/MS/NUMBER   the same, MS later
 * /big/BYTES  /chunked  /eof (no length, ends by closing)   /hang  /reset  /early  /garbage  /twice  /closing  /upgrade (then echo)
 */
static bool http_request(struct served *s, const char *path, const char *method)
{
	struct app *a = s->a;
	char text[128];
	unsigned int number, ms = 0;
	size_t size;

	if (sscanf(path, "/n/%u", &number) == 1 || sscanf(path, "/slow/%u/%u", &ms, &number) == 2) {
		int count;

		if (number >= IDS)
			return false;
		count = __atomic_add_fetch(&a->executed[number], 1, __ATOMIC_SEQ_CST);
		__atomic_add_fetch(&a->total, 1, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&a->breaks, __ATOMIC_SEQ_CST))
			return false;
		if (ms)
			poll(NULL, 0, (int)ms);
		snprintf(text, sizeof(text), "%u %d%s", number, count, a->twist ? " twisted" : "");
		return ok_answer(s->fd, strcmp(method, "HEAD") ? text : "");
	}
	if (sscanf(path, "/big/%zu", &size) == 1) {
		static char block[65536];
		int n = snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", size);

		memset(block, 'b', sizeof(block));
		if (!say(s->fd, text, (size_t)n))
			return false;
		while (size > 0) {
			size_t part = size < sizeof(block) ? size : sizeof(block);

			if (!say(s->fd, block, part))
				return false;
			size -= part;
		}
		return true;
	}
	if (!strcmp(path, "/chunked")) {
		const char *t = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n";

		return say(s->fd, t, strlen(t));
	}
	if (!strcmp(path, "/eof")) {
		const char *t = "HTTP/1.1 200 OK\r\n\r\nuntil the end";

		say(s->fd, t, strlen(t));
		return false;
	}
	if (!strcmp(path, "/closing")) {
		const char *t = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbye";

		say(s->fd, t, strlen(t));
		return false;
	}
	if (!strcmp(path, "/hang")) {
		struct pollfd p = { .fd = s->fd, .events = POLLRDHUP };

		poll(&p, 1, 20000);
		return false;
	}
	if (!strncmp(path, "/reset", 6)) {
		__atomic_add_fetch(&a->executed[0], 1, __ATOMIC_SEQ_CST);
		reset(s->fd);
		return false;
	}
	if (!strcmp(path, "/early")) {
		const char *t = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly a part";

		say(s->fd, t, strlen(t));
		return false;
	}
	if (!strcmp(path, "/garbage")) {
		const char *t = "nonsense, not an answer\r\n\r\n";

		say(s->fd, t, strlen(t));
		return false;
	}
	if (!strcmp(path, "/twice")) {
		/* in one piece: what comes later can be taken for the answer to a later request by anybody */
		const char *t = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirstHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond";

		return say(s->fd, t, strlen(t));
	}
	if (!strcmp(path, "/upgrade")) {
		const char *t = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n";
		char buf[1024];
		ssize_t n;

		if (!say(s->fd, t, strlen(t)))
			return false;
		while ((n = recv(s->fd, buf, sizeof(buf), 0)) > 0 && say(s->fd, buf, (size_t)n))
			;
		return false;
	}
	return ok_answer(s->fd, "other");
}

static void http_serve(struct served *s)
{
	char buf[65536], method[16], path[256];
	size_t len = 0;

	for (;;) {
		char *end, *cl;
		size_t head, body;
		ssize_t n;

		buf[len] = '\0';
		end = strstr(buf, "\r\n\r\n");
		if (!end) {
			if (len >= sizeof(buf) - 1 || (n = recv(s->fd, buf + len, sizeof(buf) - 1 - len, 0)) <= 0)
				return;
			len += (size_t)n;
			continue;
		}
		head = (size_t)(end - buf) + 4;
		*end = '\0';
		cl = strcasestr(buf, "\r\ncontent-length:");
		body = cl ? strtoul(cl + 17, NULL, 10) : 0;
		if (sscanf(buf, "%15s %255s", method, path) != 2)
			return;
		len -= head;
		memmove(buf, buf + head, len);
		if (strcasestr(buf, "Transfer-Encoding"))
			body = 0;
		while (body > 0) {
			size_t part;

			if (len == 0) {
				n = recv(s->fd, buf, sizeof(buf) - 1, 0);
				if (n <= 0)
					return;
				len = (size_t)n;
			}
			part = len < body ? len : body;
			body -= part;
			len -= part;
			memmove(buf, buf + part, len);
		}
		if (!http_request(s, path, method))
			return;
	}
}

/* "n NUMBER": executes it; anything else is said back. */
static void line_serve(struct served *s)
{
	char buf[4096], text[128];
	size_t len = 0;
	ssize_t n;

	while ((n = recv(s->fd, buf + len, sizeof(buf) - 1 - len, 0)) > 0) {
		char *nl, *p = buf;
		unsigned int number;

		len += (size_t)n;
		buf[len] = '\0';
		while ((nl = strchr(p, '\n'))) {
			*nl = '\0';
			while (__atomic_load_n(&s->a->holds, __ATOMIC_SEQ_CST))
				poll(NULL, 0, 5);
			if (sscanf(p, "n %u", &number) == 1 && number < IDS) {
				int count = __atomic_add_fetch(&s->a->executed[number], 1, __ATOMIC_SEQ_CST);

				__atomic_add_fetch(&s->a->total, 1, __ATOMIC_SEQ_CST);
				snprintf(text, sizeof(text), "%u %d%s\n", number, count, s->a->twist ? " twisted" : "");
			} else {
				snprintf(text, sizeof(text), "%.100s\n", p);
			}
			if (!say(s->fd, text, strlen(text)))
				return;
			p = nl + 1;
		}
		len -= (size_t)(p - buf);
		memmove(buf, p, len);
	}
}

static void *serve(void *arg)
{
	struct served *s = arg;

	if (s->line)
		line_serve(s);
	else
		http_serve(s);
	conn_set(s->fd, NULL);
	free(s);
	return NULL;
}

static void thread(void *(*fn)(void *), void *arg)
{
	pthread_attr_t at;
	pthread_t t;

	pthread_attr_init(&at);
	pthread_attr_setdetachstate(&at, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&at, 256 * 1024);
	if (pthread_create(&t, &at, fn, arg) != 0)
		die("no thread");
	pthread_attr_destroy(&at);
}

struct accepting {
	struct app *a;
	int fd;
	bool line;
};

static void *accepting(void *arg)
{
	struct accepting ac = *(struct accepting *)arg;
	int fd, one = 1;

	free(arg);
	while ((fd = accept4(ac.fd, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
		struct served *s = malloc(sizeof(*s));

		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		*s = (struct served){ ac.a, fd, ac.line };
		conn_set(fd, ac.a);
		thread(serve, s);
	}
	return NULL;
}

static void app_accept(struct app *a, int fd, bool line)
{
	struct accepting *ac = malloc(sizeof(*ac));

	*ac = (struct accepting){ a, fd, line };
	thread(accepting, ac);
}

void app_resume(struct app *a)
{
	a->fd = listen_on(a->port);
	a->line_fd = listen_on(a->line_port);
	app_accept(a, a->fd, false);
	app_accept(a, a->line_fd, true);
}

struct app *app_start(int port, int line_port)
{
	struct app *a = calloc(1, sizeof(*a));

	a->port = port;
	a->line_port = line_port;
	app_resume(a);
	return a;
}

void app_stop(struct app *a)
{
	shutdown(a->fd, SHUT_RDWR);
	shutdown(a->line_fd, SHUT_RDWR);
	close(a->fd);
	close(a->line_fd);
	pthread_mutex_lock(&conns.lock);
	for (int fd = 0; fd < 4096; fd++)
		if (conns.a[fd] == a)
			shutdown(fd, SHUT_RDWR);
	pthread_mutex_unlock(&conns.lock);
}

/* --- relays, from the daemon's side ---------------------------------------------------------------------------------------------- */
static uint64_t next_member = 0x1000;

struct relay *relay_start_raw(int node, const char *program)
{
	struct relay *r = calloc(1, sizeof(*r));
	int sv[2];

	r->node = node;
	r->member = ++next_member;
	r->events = json_array();
	snprintf(r->ip, sizeof(r->ip), "127.0.1.%d", node);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sv) < 0)
		die("socketpair: %s", strerror(errno));
	r->fd = sv[0];
	r->pid = fork();
	if (r->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (dup2(sv[1], 3) == 3)
			execl(program ? program : "./vmpair-relay", "vmpair-relay", "--control-fd", "3", (char *)NULL);
		_exit(127);
	}
	close(sv[1]);
	return r;
}

json_t *relay_conf(struct relay *r, const char *more)
{
	char member[24], bind[16], keys[128];
	json_t *conf, *extra = NULL;

	snprintf(member, sizeof(member), "0x%llx", (unsigned long long)r->member);
	snprintf(bind, sizeof(bind), "127.0.0.%d", r->node);
	snprintf(keys, sizeof(keys), "%s/keys", dir);
	conf = json_pack("{s:s,s:i,s:s,s:s,s:i,s:s,s:[s],s:s,s:[{s:s,s:i,s:i},{s:s,s:i,s:i},{s:s,s:i,s:i}],s:s,s:s,s:i,s:i,s:i,s:i,s:i,"
			 "s:s,s:s,s:i,s:i}",
			 "cmd", "config", "version", 1, "pair", "p1", "id", "0x77", "node", r->node, "member", member, "listen", r->ip,
			 "backend", "127.0.0.1", "services", "framing", "http1", "port", HTTP_PORT, "backend_port", 9080, "framing",
			 "line,id=3", "port", LINE_PORT, "backend_port", 9081, "framing", "stream", "port", STREAM_PORT, "backend_port",
			 9081, "kind", "journal", "redo", "idempotent", "sync_buffer", 16 << 20, "answer_keep_ms", 60000, "max_request",
			 65536, "peer_timeout_ms", 300, "hb_ms", 20, "keys", keys, "bind", bind, "port_min", 7700, "port_max", 7799);
	if (!conf)
		die("configuration");
	if (more) {
		extra = json_loads(more, 0, NULL);
		if (!extra)
			die("bad JSON: %s", more);
		json_object_update(conf, extra);
		json_decref(extra);
	}
	return conf;
}

void relay_send(struct relay *r, const char *text)
{
	size_t len = strlen(text);

	/* SIGPIPE is ignored */
	if (write(r->fd, text, len) != (ssize_t)len || write(r->fd, "\n", 1) != 1)
		die("relay %d takes no command", r->node);
}

void relay_cmd(struct relay *r, const char *fmt, ...)
{
	char text[4096];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	relay_send(r, text);
}

struct relay *relay_start(int node, const char *program, const char *more)
{
	struct relay *r = relay_start_raw(node, program);
	json_t *conf = relay_conf(r, more), *hello;
	char *text = json_dumps(conf, JSON_COMPACT);

	relay_send(r, text);
	free(text);
	json_decref(conf);
	hello = relay_expect(r, "hello");
	r->port = (int)json_integer_value(json_object_get(hello, "sync_port"));
	json_decref(hello);
	return r;
}

static void relay_free(struct relay *r)
{
	close(r->fd);
	json_decref(r->events);
	free(r);
}

void relay_kill(struct relay *r)
{
	kill(r->pid, SIGKILL);
	waitpid(r->pid, NULL, 0);
	relay_free(r);
}

int relay_stop(struct relay *r)
{
	uint64_t end = now_ms() + WAIT_MS;
	int status;

	relay_cmd(r, "{\"cmd\":\"stop\"}");
	while (waitpid(r->pid, &status, WNOHANG) == 0) {
		if (now_ms() > end)
			die("relay %d does not end", r->node);
		poll(NULL, 0, 5);
	}
	relay_free(r);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static bool relay_read(struct relay *r, int ms)
{
	struct pollfd p = { .fd = r->fd, .events = POLLIN };
	char *nl, *start = r->line;
	ssize_t n;

	if (poll(&p, 1, ms) <= 0)
		return false;
	n = read(r->fd, r->line + r->len, sizeof(r->line) - r->len); /* a socket, or a terminal */
	if (n <= 0)
		return false;
	r->len += (size_t)n;
	while ((nl = memchr(start, '\n', r->len - (size_t)(start - r->line)))) {
		json_t *o = json_loadb(start, (size_t)(nl - start), 0, NULL);

		if (!o)
			die("relay %d says no JSON: %.*s", r->node, (int)(nl - start), start);
		if (getenv("RELAY_TEST_VERBOSE"))
			printf("# %d: %.*s\n", r->node, (int)(nl - start), start);
		json_array_append_new(r->events, o);
		start = nl + 1;
	}
	r->len -= (size_t)(start - r->line);
	memmove(r->line, start, r->len);
	return true;
}

json_t *relay_event(struct relay *r, const char *name, int ms)
{
	uint64_t end = now_ms() + (uint64_t)ms;

	for (;;) {
		uint64_t now = now_ms();
		json_t *o;
		size_t i;

		json_array_foreach(r->events, i, o)
			if (!strcmp(json_string_value(json_object_get(o, "ev")), name)) {
				json_incref(o);
				json_array_remove(r->events, i);
				return o;
			}
		if (now >= end || !relay_read(r, (int)(end - now)))
			if (now_ms() >= end || waitpid(r->pid, NULL, WNOHANG) == r->pid)
				return NULL;
	}
}

json_t *relay_expect(struct relay *r, const char *name)
{
	json_t *o = relay_event(r, name, WAIT_MS);

	if (!o) {
		char *text = json_dumps(r->events, JSON_COMPACT);

		die("relay %d: no event %s; others: %.2000s", r->node, name, text);
	}
	return o;
}

void relay_stats(struct relay *r, const char *name, int64_t value)
{
	uint64_t end = now_ms() + WAIT_MS;
	json_int_t got = -1;

	while (now_ms() < end) {
		json_t *o = relay_event(r, "stats", 2000);

		if (o)
			got = json_integer_value(json_object_get(o, name));
		json_decref(o);
		if (got >= value)
			return;
	}
	die("relay %d: %s is %lld, not %lld", r->node, name, (long long)got, (long long)value);
}

int64_t relay_refused(struct relay *r, const char *why)
{
	uint64_t end = now_ms() + 3000;
	int64_t got = 0;

	while (!got && now_ms() < end) {
		json_t *o = relay_event(r, "stats", 1500);

		if (o)
			got = json_integer_value(json_object_get(json_object_get(o, "refused"), why));
		json_decref(o);
	}
	return got;
}

void relay_primary(struct relay *r, uint64_t epoch)
{
	json_t *o;

	relay_cmd(r, "{\"cmd\":\"fence\",\"epoch\":\"0x%llx\",\"op\":1}", (unsigned long long)epoch);
	do {
		uint64_t e;

		o = relay_expect(r, "ready");
		e = strtoull(json_string_value(json_object_get(o, "epoch")), NULL, 16);
		json_decref(o);
		if (e == epoch)
			break;
	} while (1);
	relay_cmd(r, "{\"cmd\":\"role\",\"role\":\"primary\",\"epoch\":\"0x%llx\"}", (unsigned long long)epoch);
	relay_cmd(r, "{\"cmd\":\"mode\",\"mode\":\"alone\",\"op\":0}");
}

void relay_follow(struct relay *standby, struct relay *primary, uint64_t epoch)
{
	relay_cmd(primary, "{\"cmd\":\"peer\",\"node\":%d,\"address\":\"127.0.0.%d\",\"port\":%d,\"member\":\"0x%llx\"}", standby->node,
		  standby->node, standby->port, (unsigned long long)standby->member);
	relay_cmd(standby, "{\"cmd\":\"peer\",\"node\":%d,\"address\":\"127.0.0.%d\",\"port\":%d,\"member\":\"0x%llx\"}", primary->node,
		  primary->node, primary->port, (unsigned long long)primary->member);
	relay_cmd(standby, "{\"cmd\":\"role\",\"role\":\"standby\",\"epoch\":\"0x%llx\"}", (unsigned long long)epoch);
}

void relay_sync(struct relay *primary, struct relay *standby)
{
	static int op = 100;
	uint64_t end = now_ms() + WAIT_MS;
	json_t *o;

	op++;
	relay_cmd(primary, "{\"cmd\":\"mode\",\"mode\":\"wait\",\"op\":%d}", op);
	for (;;) {
		bool caught;

		o = relay_event(primary, "caught", 50);
		caught = o && json_is_true(json_object_get(o, "on")) && json_integer_value(json_object_get(o, "op")) == op;
		json_decref(o);
		if (caught)
			break;
		o = relay_event(standby, "need-member", 0);
		if (o) {
			standby->member = ++next_member;
			relay_cmd(standby, "{\"cmd\":\"member\",\"member\":\"0x%llx\"}", (unsigned long long)standby->member);
		}
		json_decref(o);
		if (now_ms() > end)
			relay_expect(primary, "caught");
	}
	relay_cmd(primary, "{\"cmd\":\"mode\",\"mode\":\"sync\",\"op\":0,\"node\":%d,\"member\":\"0x%llx\"}", standby->node,
		  (unsigned long long)standby->member);
}

/* --- clients --------------------------------------------------------------------------------------------------------------------- */
int dial(const char *ip, int port)
{
	struct sockaddr_in sa = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;

	inet_pton(AF_INET, ip, &sa.sin_addr);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (fd < 0 || connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	return fd;
}

void put(int fd, const char *text)
{
	(void)say(fd, text, strlen(text));
}

void putf(int fd, const char *fmt, ...)
{
	char text[4096];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	put(fd, text);
}

static int byte_in(int fd, char *c, uint64_t end)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t now = now_ms();

	if (poll(&p, 1, now < end ? (int)(end - now) : 0) <= 0)
		return 0;
	return recv(fd, c, 1, 0) == 1 ? 1 : -1;
}

int line_in(int fd, char *buf, size_t size, int ms)
{
	uint64_t end = now_ms() + (uint64_t)ms;
	size_t n = 0;
	int r;

	while (n + 1 < size) {
		r = byte_in(fd, buf + n, end);
		if (r <= 0)
			return r;
		if (buf[n] == '\n')
			break;
		n++;
	}
	buf[n] = '\0';
	return 1;
}

int answer_in(int fd, char *body, size_t size, int ms)
{
	uint64_t end = now_ms() + (uint64_t)ms;
	char head[8192];
	size_t n = 0, len = 0, got = 0;
	int status, r;
	char *cl;

	while (n < sizeof(head) - 1) {
		r = byte_in(fd, head + n, end);
		if (r <= 0)
			return r;
		n++;
		if (n >= 4 && !memcmp(head + n - 4, "\r\n\r\n", 4))
			break;
	}
	head[n] = '\0';
	if (sscanf(head, "HTTP/1.1 %d", &status) != 1)
		die("no HTTP answer: %s", head);
	cl = strcasestr(head, "\r\ncontent-length:");
	if (cl)
		len = strtoul(cl + 17, NULL, 10);
	else if (status != 100 && status != 101 && !strcasestr(head, "chunked"))
		len = SIZE_MAX; /* until the end */
	while (got < len) {
		static __thread char part[65536];
		struct pollfd p = { .fd = fd, .events = POLLIN };
		uint64_t now = now_ms();
		ssize_t k;

		if (poll(&p, 1, now < end ? (int)(end - now) : 0) <= 0)
			return 0;
		k = recv(fd, part, len - got < sizeof(part) ? len - got : sizeof(part), 0);
		if (k <= 0 && len == SIZE_MAX)
			break;
		if (k <= 0)
			return -1;
		if (body && got + 1 < size)
			memcpy(body + got, part, (size_t)k < size - 1 - got ? (size_t)k : size - 1 - got);
		got += (size_t)k;
	}
	if (body && size)
		body[got < size ? got : size - 1] = '\0';
	return status;
}

int answer(int fd, char *body, size_t size)
{
	return answer_in(fd, body, size, WAIT_MS);
}

int ask(struct relay *r, const char *method, const char *target, const char *id, char *body, size_t size)
{
	int fd = dial(r->ip, HTTP_PORT), status;

	if (fd < 0)
		return -1;
	putf(fd, "%s %s HTTP/1.1\r\nHost: h\r\n%s%s%s%s\r\n", method, target, id ? "Idempotency-Key: \"" : "", id ? id : "", id ? "\"\r\n" : "",
	     strcmp(method, "POST") ? "" : "Content-Length: 0\r\n");
	status = answer(fd, body, size);
	close(fd);
	return status;
}

bool closed_in(int fd, int ms)
{
	uint64_t end = now_ms() + (uint64_t)ms, now;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	static char rest[65536];

	while ((now = now_ms()) < end && poll(&p, 1, (int)(end - now)) > 0)
		if (recv(fd, rest, sizeof(rest), 0) <= 0)
			return true;
	return false;
}
