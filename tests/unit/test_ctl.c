/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Both ends of the control socket. The server runs in the test's own loop, or in a thread where the blocking client is tested. */
#include "daemon/ctl.h"
#include "daemon/ctlclient.h"
#include "pollloop.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define MS UINT64_C(1000000)

struct world {
	char dir[64], path[96];
	struct pollloop *loop;
	struct vmp_ctl *ctl;
	uint64_t token;			/* newest request */
	unsigned requests, cancels;
	int cancel_rc;
	uint64_t cancel_token;
	char cmd[32];
	bool echo;			/* answer at once */
	bool ignore;			/* count only */
};

static void on_request(void *data, uint64_t token, const char *cmd, json_t *msg)
{
	struct world *w = data;
	w->requests++;
	if (w->ignore)
		return;
	w->token = token;
	snprintf(w->cmd, sizeof(w->cmd), "%s", cmd);
	if (!strcmp(cmd, "follow")) {
		vmp_ctl_subscribe(w->ctl, token, json_string_value(json_object_get(msg, "pair")), json_pack("{s:[]}", "events"));
	} else if (!strcmp(cmd, "big")) {
		size_t n = (size_t)json_integer_value(json_object_get(msg, "n"));
		char *s = malloc(n + 1);
		memset(s, 'x', n);
		s[n] = '\0';
		vmp_ctl_reply(w->ctl, token, 0, NULL, json_pack("{s:s}", "x", s));
		free(s);
	} else if (w->echo) {
		vmp_ctl_reply(w->ctl, token, 0, "fine", json_pack("{s:O}", "echo", msg));
	}
}

static void on_cancelled(void *data, uint64_t token, int rc)
{
	struct world *w = data;
	w->cancels++;
	w->cancel_rc = rc;
	w->cancel_token = token;
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	char reason[128];
	strcpy(w->dir, "/tmp/vmp-ctl-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->path, sizeof(w->path), "%s/sock", w->dir);
	w->loop = pollloop_new();
	struct vmp_ctl_params p = {
		.ops = pollloop_ops(w->loop), .path = w->path, .allow_uid = getuid(), .data = w, .request = on_request, .cancelled = on_cancelled,
	};
	assert_int_equal(vmp_ctl_new(&w->ctl, &p, reason, sizeof(reason)), 0);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	w->ctl = vmp_ctl_free(w->ctl);
	assert_int_equal(access(w->path, F_OK), -1);
	pollloop_free(w->loop);
	assert_int_equal(rmdir(w->dir), 0);
	free(w);
	return 0;
}

static void pump(struct world *w)
{
	while (pollloop_round(w->loop, 0) > 0)
		;
}

static void tick(struct world *w, uint64_t forward_ns)
{
	pollloop_advance(w->loop, forward_ns);
	vmp_ctl_tick(w->ctl, pollloop_ops(w->loop)->now_ns(w->loop));
	pump(w);
}

static int raw_connect(struct world *w)
{
	struct sockaddr_un sa = {.sun_family = AF_UNIX};
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", w->path);
	int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	assert_true(fd >= 0);
	int rc = connect(fd, (struct sockaddr *)&sa, sizeof(sa));
	if (rc < 0 && errno == EAGAIN) {
		pump(w);
		rc = connect(fd, (struct sockaddr *)&sa, sizeof(sa));
	}
	assert_int_equal(rc, 0);
	return fd;
}

static void raw_send(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), (ssize_t)strlen(text));
}

/* Next datagram as JSON; NULL at the end of the connection or when there is none. */
static json_t *raw_recv(int fd)
{
	static char buf[VMP_CTL_MAX_MSG];
	ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);
	if (n <= 0)
		return NULL;
	json_t *j = json_loadb(buf, (size_t)n, 0, NULL);
	assert_non_null(j);
	return j;
}

static void expect_ack(int fd)
{
	json_t *j = raw_recv(fd);
	assert_true(json_is_true(json_object_get(j, "ack")));
	json_decref(j);
}

static void expect_rc(int fd, int rc)
{
	json_t *j = raw_recv(fd);
	assert_non_null(j);
	assert_int_equal(json_integer_value(json_object_get(j, "rc")), rc);
	json_decref(j);
}

static bool closed(int fd)
{
	char b;
	return recv(fd, &b, 1, MSG_DONTWAIT) == 0;
}

static void request_and_answer(void **state)
{
	struct world *w = *state;
	struct stat st;
	assert_int_equal(stat(w->path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	int fd = raw_connect(w);
	w->echo = true;
	for (int i = 0; i < 3; i++) {
		raw_send(fd, "{\"v\":1,\"cmd\":\"status\",\"pair\":\"web\"}");
		pump(w);
		expect_ack(fd);
		json_t *j = raw_recv(fd);
		assert_string_equal(json_string_value(json_object_get(json_object_get(j, "echo"), "pair")), "web");
		assert_string_equal(json_string_value(json_object_get(j, "reason")), "fine");
		json_decref(j);
	}
	assert_int_equal(vmp_ctl_reply(w->ctl, w->token, 0, NULL, NULL), -ENOENT);
	close(fd);
	pump(w);
	struct vmp_ctl_stats s;
	vmp_ctl_get_stats(w->ctl, &s);
	assert_int_equal(s.clients, 0);
	assert_int_equal(w->cancels, 0);
}

static void answer_comes_later_and_in_turn(void **state)
{
	struct world *w = *state;
	int a = raw_connect(w), b = raw_connect(w);
	raw_send(a, "{\"v\":1,\"cmd\":\"start\"}");
	raw_send(a, "{\"v\":1,\"cmd\":\"second\"}");
	pump(w);
	assert_int_equal(w->requests, 1);	/* the second waits in the socket */
	uint64_t token = w->token;
	raw_send(b, "{\"v\":1,\"cmd\":\"other\"}");
	pump(w);
	assert_string_equal(w->cmd, "other");
	assert_int_equal(vmp_ctl_reply_ocf(w->ctl, token, 7, "gone"), 0);
	pump(w);
	assert_string_equal(w->cmd, "second");
	expect_ack(a);
	json_t *j = raw_recv(a);
	assert_int_equal(json_integer_value(json_object_get(j, "ocf")), 7);
	assert_string_equal(json_string_value(json_object_get(j, "reason")), "gone");
	json_decref(j);
	close(a);
	pump(w);
	assert_int_equal(w->cancels, 1);
	assert_int_equal(w->cancel_rc, -ECONNRESET);
	assert_int_equal(w->cancel_token, w->token);
	assert_int_equal(vmp_ctl_reply(w->ctl, w->token, 0, NULL, json_object()), -ENOENT);
	close(b);
	pump(w);
	assert_int_equal(w->cancels, 2);
}

static void request_has_a_deadline(void **state)
{
	struct world *w = *state;
	int fd = raw_connect(w);
	raw_send(fd, "{\"v\":1,\"cmd\":\"promote\",\"timeout_ms\":300}");
	pump(w);
	expect_ack(fd);
	tick(w, 290 * MS);
	assert_int_equal(w->cancels, 0);
	tick(w, 20 * MS);
	expect_rc(fd, VMP_CTL_TIMEOUT);
	assert_int_equal(w->cancel_rc, -ETIMEDOUT);
	assert_int_equal(vmp_ctl_reply(w->ctl, w->token, 0, NULL, NULL), -ENOENT);
	/* the connection lives on */
	w->echo = true;
	raw_send(fd, "{\"v\":1,\"cmd\":\"x\"}");
	pump(w);
	expect_ack(fd);
	expect_rc(fd, 0);
	close(fd);
	pump(w);
}

static void bad_messages_are_refused(void **state)
{
	struct world *w = *state;
	static const char *const bad[] = {
		"garbage", "[]", "{}", "{\"v\":2,\"cmd\":\"x\"}", "{\"v\":1}", "{\"v\":1,\"cmd\":7}", "{\"v\":1,\"cmd\":\"\"}",
		"{\"v\":1,\"cmd\":\"x\",\"timeout_ms\":0}", "{\"v\":1,\"cmd\":\"x\",\"timeout_ms\":99999999999}",
		"{\"v\":1,\"cmd\":\"x\",\"cmd\":\"y\"}", "\xff\xfe", "{\"v\":\"1\",\"cmd\":\"x\"}",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int fd = raw_connect(w);
		raw_send(fd, bad[i]);
		pump(w);
		expect_rc(fd, VMP_CTL_USAGE);
		assert_true(closed(fd));
		close(fd);
	}
	assert_int_equal(w->requests, 0);
	/* too long: the kernel truncates it, the server says so */
	int fd = raw_connect(w), size = 1 << 20;
	setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	char *text = malloc(VMP_CTL_MAX_MSG + 2);
	memset(text, ' ', VMP_CTL_MAX_MSG + 1);
	text[VMP_CTL_MAX_MSG + 1] = '\0';
	raw_send(fd, text);
	free(text);
	pump(w);
	expect_rc(fd, VMP_CTL_USAGE);
	assert_true(closed(fd));
	close(fd);
	pump(w);
}

static void long_answers(void **state)
{
	struct world *w = *state;
	int fd = raw_connect(w);
	raw_send(fd, "{\"v\":1,\"cmd\":\"big\",\"n\":262000}");
	pump(w);
	expect_ack(fd);
	json_t *j = raw_recv(fd);
	assert_int_equal(json_string_length(json_object_get(j, "x")), 262000);
	json_decref(j);
	raw_send(fd, "{\"v\":1,\"cmd\":\"big\",\"n\":262144}");
	pump(w);
	expect_ack(fd);
	expect_rc(fd, VMP_CTL_FAILED);
	close(fd);
	pump(w);
}

static void idle_client_is_dropped(void **state)
{
	struct world *w = *state;
	int fd = raw_connect(w);
	pump(w);
	assert_true(vmp_ctl_deadline_ns(w->ctl) != VMP_NO_DEADLINE);
	tick(w, (VMP_CTL_IDLE_MS - 500) * MS);
	assert_false(closed(fd));
	tick(w, 600 * MS);
	assert_true(closed(fd));
	assert_true(vmp_ctl_deadline_ns(w->ctl) == VMP_NO_DEADLINE);
	close(fd);
	vmp_ctl_set_client_timeout(w->ctl, 300);
	fd = raw_connect(w);
	pump(w);
	tick(w, 290 * MS);
	assert_false(closed(fd));
	tick(w, 20 * MS);
	assert_true(closed(fd));
	close(fd);
}

static void client_that_never_reads_is_dropped(void **state)
{
	struct world *w = *state;
	int slow = raw_connect(w), good = raw_connect(w);
	raw_send(slow, "{\"v\":1,\"cmd\":\"follow\"}");
	raw_send(good, "{\"v\":1,\"cmd\":\"follow\",\"pair\":\"web\"}");
	pump(w);
	expect_ack(good);
	expect_rc(good, 0);
	char *pad = malloc(8193);
	memset(pad, 'p', 8192);
	pad[8192] = '\0';
	struct vmp_ctl_stats s;
	unsigned i = 0;
	/* Far more than socket buffer and queue hold: the good one gets each event at once. */
	do {
		json_t *ev = json_pack("{s:i s:s}", "n", (int)i, "pad", pad);
		vmp_ctl_publish(w->ctl, "web", ev);
		json_decref(ev);
		json_t *j = raw_recv(good);
		assert_non_null(j);
		assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "event"), "n")), i);
		json_decref(j);
		vmp_ctl_get_stats(w->ctl, &s);
		assert_true(++i < 2000);
	} while (s.events_lost < 10);
	free(pad);
	vmp_ctl_publish(w->ctl, "db", json_null());
	assert_null(raw_recv(good));			/* not subscribed to that pair */
	/* It reads after all: what was queued, and how many were lost. */
	unsigned n = 0;
	json_t *j;
	uint64_t lost = 0;
	for (;;) {
		pump(w);
		j = raw_recv(slow);
		if (!j)
			break;
		n++;
		lost += (uint64_t)json_integer_value(json_object_get(j, "lost"));
		json_decref(j);
	}
	assert_int_equal(lost, 10);
	assert_int_equal(n, i - lost + 4);	/* ack, reply, the loss, the other pair's event */
	json_t *ev;
	/* Stops reading for good. */
	pad = malloc(100001);
	memset(pad, 'p', 100000);
	pad[100000] = '\0';
	for (i = 0; i < 50; i++) {
		ev = json_pack("{s:s}", "pad", pad);
		vmp_ctl_publish(w->ctl, NULL, ev);
		json_decref(ev);
		j = raw_recv(good);
		assert_non_null(j);
		json_decref(j);
	}
	free(pad);
	tick(w, (VMP_CTL_SEND_MS + 100) * MS);
	vmp_ctl_get_stats(w->ctl, &s);
	assert_int_equal(s.dropped_slow, 1);
	assert_int_equal(s.subscribers, 1);
	assert_int_equal(s.clients, 1);
	/* A subscriber may be silent for ever. */
	tick(w, 3600 * UINT64_C(1000) * MS);
	vmp_ctl_get_stats(w->ctl, &s);
	assert_int_equal(s.clients, 1);
	close(slow);
	close(good);
	pump(w);
}

static void number_of_clients_is_bounded(void **state)
{
	struct world *w = *state;
	int fd[VMP_CTL_MAX_CLIENTS + 1];
	w->ignore = true;
	for (int i = 0; i < VMP_CTL_MAX_CLIENTS; i++) {
		fd[i] = raw_connect(w);
		pump(w);
	}
	/* one more takes the place of the one that has been quiet for longest */
	int extra = raw_connect(w);
	pump(w);
	assert_true(closed(fd[0]));
	raw_send(extra, "{\"v\":1,\"cmd\":\"x\"}");
	for (int i = 1; i < VMP_CTL_MAX_CLIENTS; i++)
		raw_send(fd[i], "{\"v\":1,\"cmd\":\"x\"}");
	pump(w);
	assert_int_equal(w->requests, VMP_CTL_MAX_CLIENTS);
	/* all at work: refused, with a message */
	int refused = raw_connect(w);
	pump(w);
	expect_rc(refused, VMP_CTL_FAILED);
	assert_true(closed(refused));
	struct vmp_ctl_stats s;
	vmp_ctl_get_stats(w->ctl, &s);
	assert_int_equal(s.refused_full, 1);
	assert_int_equal(s.clients, VMP_CTL_MAX_CLIENTS);
	close(refused);
	close(extra);
	for (int i = 0; i < VMP_CTL_MAX_CLIENTS; i++)
		close(fd[i]);
	pump(w);
	vmp_ctl_get_stats(w->ctl, &s);
	assert_int_equal(s.clients, 0);
}

static void subscribers_are_bounded(void **state)
{
	struct world *w = *state;
	int fd[VMP_CTL_MAX_SUBSCRIBERS + 1];
	for (int i = 0; i <= VMP_CTL_MAX_SUBSCRIBERS; i++) {
		fd[i] = raw_connect(w);
		raw_send(fd[i], "{\"v\":1,\"cmd\":\"follow\"}");
		pump(w);
		expect_ack(fd[i]);
		expect_rc(fd[i], i < VMP_CTL_MAX_SUBSCRIBERS ? VMP_CTL_OK : VMP_CTL_FAILED);
	}
	for (int i = 0; i <= VMP_CTL_MAX_SUBSCRIBERS; i++)
		close(fd[i]);
	pump(w);
	struct vmp_ctl_stats s;
	vmp_ctl_get_stats(w->ctl, &s);
	assert_int_equal(s.subscribers, 0);
}

static void only_one_daemon_per_socket(void **state)
{
	struct world *w = *state;
	struct vmp_ctl *second = NULL;
	char reason[128];
	struct vmp_ctl_params p = {.ops = pollloop_ops(w->loop), .path = w->path, .allow_uid = getuid()};
	assert_int_equal(vmp_ctl_new(&second, &p, reason, sizeof(reason)), -EADDRINUSE);
	assert_non_null(strstr(reason, "another vmpaird"));
	assert_null(second);
	pump(w);
}

/* --- the blocking client, against a server in a thread --- */

struct server {
	struct world *w;
	atomic_bool stop;
};

static void *serve(void *data)
{
	struct server *s = data;
	while (!s->stop) {
		pollloop_round(s->w->loop, 5);
		vmp_ctl_tick(s->w->ctl, pollloop_ops(s->w->loop)->now_ns(s->w->loop));
	}
	return NULL;
}

static void client_calls(void **state)
{
	struct world *w = *state;
	struct server s = {.w = w};
	pthread_t t;
	w->echo = true;
	assert_int_equal(pthread_create(&t, NULL, serve, &s), 0);

	struct vmp_ctlc *c;
	json_t *reply, *req = json_pack("{s:i s:s}", "v", 1, "cmd", "status");
	bool acked;
	assert_int_equal(vmp_ctlc_open_wait(&c, w->path, 2000), 0);
	assert_int_equal(vmp_ctlc_call(c, req, 2000, 2000, &reply, &acked), 0);
	assert_true(acked);
	assert_int_equal(json_integer_value(json_object_get(reply, "rc")), 0);
	json_decref(reply);
	json_decref(req);

	req = json_pack("{s:i s:s}", "v", 1, "cmd", "follow");
	assert_int_equal(vmp_ctlc_call(c, req, 2000, 2000, &reply, NULL), 0);
	json_decref(reply);
	json_decref(req);
	assert_int_equal(vmp_ctlc_next(c, 10, &reply), -ETIMEDOUT);
	c = vmp_ctlc_free(c);

	w->echo = false;
	assert_int_equal(vmp_ctlc_open(&c, w->path, 2000), 0);
	req = json_pack("{s:i s:s}", "v", 1, "cmd", "never");
	assert_int_equal(vmp_ctlc_call(c, req, 2000, 30, &reply, &acked), -ETIMEDOUT);
	assert_true(acked);
	json_decref(req);
	vmp_ctlc_free(c);
	s.stop = true;
	pthread_join(t, NULL);
	pump(w);
}

static void client_without_daemon(void **state)
{
	struct world *w = *state;
	struct vmp_ctlc *c = NULL;
	json_t *reply;
	bool acked = true;
	char path[128];
	snprintf(path, sizeof(path), "%s/none", w->dir);
	assert_int_equal(vmp_ctlc_open(&c, path, 10), -ENOENT);
	assert_int_equal(vmp_ctlc_open_wait(&c, path, 50), -ENOENT);
	assert_null(c);
	/* a daemon that hangs: connect works (backlog), the ack does not come */
	json_t *req = json_pack("{s:i s:s}", "v", 1, "cmd", "monitor");
	assert_int_equal(vmp_ctlc_open(&c, w->path, 100), 0);
	assert_int_equal(vmp_ctlc_call(c, req, 30, 10000, &reply, &acked), -ETIMEDOUT);
	assert_false(acked);
	vmp_ctlc_free(c);
	json_decref(req);
	pump(w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(request_and_answer, setup, teardown),
		cmocka_unit_test_setup_teardown(answer_comes_later_and_in_turn, setup, teardown),
		cmocka_unit_test_setup_teardown(request_has_a_deadline, setup, teardown),
		cmocka_unit_test_setup_teardown(bad_messages_are_refused, setup, teardown),
		cmocka_unit_test_setup_teardown(long_answers, setup, teardown),
		cmocka_unit_test_setup_teardown(idle_client_is_dropped, setup, teardown),
		cmocka_unit_test_setup_teardown(client_that_never_reads_is_dropped, setup, teardown),
		cmocka_unit_test_setup_teardown(number_of_clients_is_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(subscribers_are_bounded, setup, teardown),
		cmocka_unit_test_setup_teardown(only_one_daemon_per_socket, setup, teardown),
		cmocka_unit_test_setup_teardown(client_calls, setup, teardown),
		cmocka_unit_test_setup_teardown(client_without_daemon, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
