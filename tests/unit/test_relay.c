/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The daemon's side of a relay: the lines, and the supervision of a process, whose other end this program plays itself. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/core/core.h"
#include "daemon/keys.h"
#include "daemon/proc.h"
#include "daemon/relay.h"
#include "internal/cleanup.h"
#include "tests/unit/testdir.h"

/* --- the other end: a process that does what its pair's name says ---------------------------------------------------------- */
static void say(int fd, const char *line)
{
	if (write(fd, line, strlen(line)) < 0)
		_exit(9);
}

static void serve(int fd, const char *path, bool deaf)
{
	char line[VMP_RELAY_LINE], out[200];
	FILE *f = fdopen(fd, "r");

	while (fgets(line, sizeof(line), f)) {
		json_t *o = json_loads(line, 0, NULL);
		const char *cmd = json_string_value(json_object_get(o, "cmd"));

		if (!cmd)
			_exit(8);
		if (!strcmp(cmd, "config")) {
			snprintf(out, sizeof(out), "{\"ev\":\"hello\",\"version\":1,\"sync_port\":7701,\"pid\":%d}\n", (int)getpid());
			say(fd, out);
			if (strstr(path, "/talks."))
				say(fd, "nonsense\n{\"ev\":\"dance\"}\n{\"ev\":\"caught\",\"on\":true,\"node\":2,\"member\":\"0xfedcba9876543210\","
					"\"op\":7}\n");
			if (strstr(path, "/floods."))
				for (int i = 0; i < 5000; i++)
					say(fd, "xxxxxxxxxx");
			if (strstr(path, "/leaves."))
				_exit(3);
		} else if (!strcmp(cmd, "fence")) {
			snprintf(out, sizeof(out), "{\"ev\":\"ready\",\"epoch\":\"%s\",\"op\":0}\n",
				 json_string_value(json_object_get(o, "epoch")));
			say(fd, out);
		} else if (!strcmp(cmd, "stop") && !deaf) {
			unlink(path);
			_exit(0);
		}
		json_decref(o);
	}
	fclose(f);
}

static int play(const char *path)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	int l = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	signal(SIGPIPE, SIG_IGN);
	alarm(20);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
	if (bind(l, (struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(l, 1) < 0)
		return 7;
	for (;;) {
		int fd = accept(l, NULL, NULL);

		if (fd < 0)
			return 6;
		serve(fd, path, strstr(path, "/deaf."));
	}
}

/* --- what the tests share ----------------------------------------------------------------------------------------------------- */
static char dir[80], program[160];
static struct vmp_loop *loop;
static struct vmp_relays *relays;
static struct vmp_relay_event got[64];
static unsigned n_got;
static enum vmp_relay_event_type awaited;
static struct vmp_relay *stop_at;

static void on_event(void *data, const struct vmp_relay_event *ev)
{
	(void)data;
	assert_true(n_got < ARRAY_SIZE(got));
	got[n_got] = *ev;
	got[n_got++].obj = NULL;
	if (stop_at)
		stop_at = vmp_relay_stop(stop_at);
	if (ev->type == awaited)
		vmp_loop_stop(loop);
}

static void too_late(void *data)
{
	(void)data;
	fail_msg("no event %d within 8 s", (int)awaited);
}

/* Runs the loop until an event of that type comes; the last one is got[n_got - 1]. */
static const struct vmp_relay_event *await(enum vmp_relay_event_type type)
{
	struct vmp_timer limit = { 0 };

	awaited = type;
	vmp_loop_timer(loop, &limit, vmp_now_ns() + 8000000000u, too_late, NULL);
	vmp_loop_run(loop);
	vmp_loop_timer_del(loop, &limit);
	return &got[n_got - 1];
}

static void look(void *data)
{
	if (vmp_proc_gone(*(int *)data))
		vmp_loop_stop(loop);
	else
		vmp_loop_timer(loop, (struct vmp_timer *)((int *)data + 2), vmp_now_ns() + 1000000, look, data);
}

/* Runs the loop until the process is gone, and a little longer, so that the loop has noticed too. */
static void await_gone(int pidfd)
{
	struct { int fd, pad; struct vmp_timer t; } w = { .fd = pidfd };
	struct vmp_timer limit = { 0 };

	vmp_loop_timer(loop, &limit, vmp_now_ns() + 8000000000u, too_late, NULL);
	vmp_loop_timer(loop, &w.t, vmp_now_ns(), look, &w);
	vmp_loop_run(loop);
	vmp_loop_timer(loop, &w.t, vmp_now_ns() + 5000000, look, &w);
	vmp_loop_run(loop);
	vmp_loop_timer_del(loop, &limit);
}

static void relays_up(const char *with)
{
	struct vmp_relays_conf c = { .loop = loop, .program = with, .dir = dir, .user = "nobody" };
	char reason[200] = "";

	if (vmp_relays_new(&relays, &c, reason, sizeof(reason)) < 0)
		fail_msg("%s", reason);
}

static struct vmp_relay *start(const char *pair)
{
	struct vmp_relay *r = NULL;
	char reason[200] = "";

	if (vmp_relay_start(relays, pair, strdup("{\"cmd\":\"config\"}\n"), on_event, NULL, &r, reason, sizeof(reason)) < 0)
		fail_msg("%s", reason);
	return r;
}

static int pidfd_of(struct vmp_relay *r)
{
	uint64_t ticks = vmp_relay_start_time(r);
	int fd = -1;

	assert_int_equal(vmp_proc_open(vmp_relay_pid(r), &ticks, &fd), 0);
	return fd;
}

static int setup(void **state)
{
	char cmd[400];

	setenv("TMPDIR", "/tmp", 0); /* programs may not run in /dev/shm */
	if (testdir_make(state) < 0 || chmod(testdir, 0711) < 0)
		return -1;
	snprintf(dir, sizeof(dir), "%.70s/s", testdir);
	/* the relays' user may not get at the build directory */
	snprintf(program, sizeof(program), "%s/relay", testdir);
	snprintf(cmd, sizeof(cmd), "cp /proc/%d/exe %s && chmod 755 %s", (int)getpid(), program, program);
	if (system(cmd) != 0)
		return -1;
	n_got = 0;
	return vmp_loop_new(&loop);
}

static int teardown(void **state)
{
	vmp_relays_free(relays);
	relays = NULL;
	vmp_loop_free(loop);
	return testdir_remove(state);
}

/* --- lines ---------------------------------------------------------------------------------------------------------------------- */
static void events_are_read(void **state)
{
	struct vmp_relay_event ev;
	char reason[96];
	const char *t;

	(void)state;
	t = "{\"ev\":\"hello\",\"version\":1,\"sync_port\":7701,\"pid\":42,\"more\":true}";
	assert_int_equal(vmp_relay_event_parse(t, strlen(t), &ev, reason, sizeof(reason)), 0);
	assert_true(ev.type == VMP_RELAY_EV_HELLO && ev.port == 7701 && ev.pid == 42);
	vmp_relay_event_done(&ev);
	t = "{\"ev\":\"ready\",\"epoch\":\"0xffffffffffffff02\",\"op\":5}";
	assert_int_equal(vmp_relay_event_parse(t, strlen(t), &ev, reason, sizeof(reason)), 0);
	assert_true(ev.type == VMP_RELAY_EV_READY && ev.epoch == 0xffffffffffffff02 && ev.op == 5);
	vmp_relay_event_done(&ev);
	t = "{\"ev\":\"caught\",\"on\":false,\"node\":3}";
	assert_int_equal(vmp_relay_event_parse(t, strlen(t), &ev, reason, sizeof(reason)), 0);
	assert_true(ev.type == VMP_RELAY_EV_CAUGHT && !ev.on && ev.node == 3 && ev.op == 0);
	vmp_relay_event_done(&ev);
	t = "{\"ev\":\"need-member\",\"reason\":\"a\\u0007b\"}";
	assert_int_equal(vmp_relay_event_parse(t, strlen(t), &ev, reason, sizeof(reason)), 0);
	assert_true(ev.type == VMP_RELAY_EV_NEED_MEMBER);
	assert_string_equal(ev.text, "a?b");
	vmp_relay_event_done(&ev);
	t = "{\"ev\":\"note\",\"level\":\"error\",\"text\":\"x\"}";
	assert_int_equal(vmp_relay_event_parse(t, strlen(t), &ev, reason, sizeof(reason)), 0);
	assert_int_equal(ev.level, LOG_ERR);
	vmp_relay_event_done(&ev);
	t = "{\"ev\":\"takeover\",\"epoch\":\"0x102\",\"received\":3,\"executed\":\"0x3\"}";
	assert_int_equal(vmp_relay_event_parse(t, strlen(t), &ev, reason, sizeof(reason)), 0);
	assert_true(ev.type == VMP_RELAY_EV_TAKEOVER && vmp_relay_count(ev.obj, "received") == 3 && vmp_relay_count(ev.obj, "executed") == 3 &&
		    vmp_relay_count(ev.obj, "dropped") == 0);
	vmp_relay_event_done(&ev);
	t = "{\"ev\":\"tickle\",\"from\":\"10.0.0.10\",\"port\":80,\"to\":[[\"10.0.0.9\",40000]]}";
	assert_int_equal(vmp_relay_event_parse(t, strlen(t), &ev, reason, sizeof(reason)), 0);
	assert_int_equal(ev.type, VMP_RELAY_EV_TICKLE);
	vmp_relay_event_done(&ev);
}

static void bad_events_are_refused(void **state)
{
	static const char *const bad[] = {
		"", "x", "[]", "{}", "{\"ev\":7}", "{\"ev\":\"dance\"}", "{\"ev\":\"hello\",\"sync_port\":0}", "{\"ev\":\"hello\"}",
		"{\"ev\":\"hello\",\"sync_port\":70000}", "{\"ev\":\"hello\",\"sync_port\":\"7\"}", "{\"ev\":\"hello\",\"version\":2,\"sync_port\":7}",
		"{\"ev\":\"ready\"}", "{\"ev\":\"ready\",\"epoch\":\"7\"}", "{\"ev\":\"ready\",\"epoch\":\"0x\"}",
		"{\"ev\":\"ready\",\"epoch\":\"0x11111111111111111\"}", "{\"ev\":\"ready\",\"epoch\":\"0xg\"}", "{\"ev\":\"ready\",\"epoch\":-1}",
		"{\"ev\":\"ready\",\"epoch\":\"0x1\",\"epoch\":\"0x2\"}", "{\"ev\":\"caught\",\"node\":2,\"member\":\"0x1\"}",
		"{\"ev\":\"caught\",\"on\":true,\"node\":0,\"member\":\"0x1\"}", "{\"ev\":\"caught\",\"on\":true,\"node\":256,\"member\":\"0x1\"}",
		"{\"ev\":\"caught\",\"on\":true,\"node\":2}", "{\"ev\":\"stats\"", "{\"ev\":\"stats\"} x",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct vmp_relay_event ev;
		char reason[96] = "";

		if (vmp_relay_event_parse(bad[i], strlen(bad[i]), &ev, reason, sizeof(reason)) != -EINVAL)
			fail_msg("taken: %s", bad[i]);
		assert_true(reason[0]);
	}
}

static json_t *parsed(char *line)
{
	json_t *o = line ? json_loads(line, 0, NULL) : NULL;

	assert_non_null(o);
	assert_true(strchr(line, '\n') == line + strlen(line) - 1);
	free(line);
	return o;
}

static void commands_are_written(void **state)
{
	static struct vmp_pair_params p;
	struct vmp_relay_config c = { .params = &p, .pair_id = 0xfedcba9876543210, .member = 1, .node = 2, .hb_ms = 20, .port_min = 7700,
				      .port_max = 7799, .backend = "192.168.77.2", .bind = "10.0.0.2", .keys = "/run/k" };
	json_t *o = json_pack("{s:s s:s s:s s:s s:s s:s s:s s:s s:s}", "pair", "web", "domain", "/x", "entry", "10.0.0.10/24 fd00::10/64",
			      "entry_nic", "br0", "internal_net", "192.168.77.0/24", "entry_mode", "host", "relay", "host", "services",
			      "http1:80:8080 length-prefixed,width=2,id=1+8:7000", "redo", "all");
	uint64_t v;

	(void)state;
	assert_int_equal(vmp_pair_params_parse(o, &p, NULL, NULL), 0);
	json_decref(o);
	o = parsed(vmp_relay_config_line(&c));
	assert_true(vmp_relay_u64(o, "id", &v) && v == 0xfedcba9876543210);
	assert_string_equal(json_string_value(json_array_get(json_object_get(o, "listen"), 1)), "fd00::10");
	assert_string_equal(json_string_value(json_object_get(o, "kind")), "journal");
	assert_string_equal(json_string_value(json_object_get(o, "redo")), "all");
	assert_int_equal(json_integer_value(json_object_get(json_array_get(json_object_get(o, "services"), 0), "backend_port")), 8080);
	assert_int_equal(json_integer_value(json_object_get(o, "sync_buffer")), 64 << 20);
	assert_null(json_object_get(o, "export"));
	json_decref(o);
	o = parsed(vmp_relay_role_line(VMP_RELAY_STANDBY, 0x102));
	assert_string_equal(json_string_value(json_object_get(o, "role")), "standby");
	json_decref(o);
	o = parsed(vmp_relay_mode_line(VMP_MODE_SYNC, 0, 2, 0xabc));
	assert_string_equal(json_string_value(json_object_get(o, "mode")), "sync");
	assert_true(vmp_relay_u64(o, "member", &v) && v == 0xabc);
	json_decref(o);
	/* a line that the relay would not take is not written */
	memset(p.export_cmd, '\1', sizeof(p.export_cmd) - 1);
	memset(p.import_cmd, '\1', sizeof(p.import_cmd) - 1); /* six characters each in JSON */
	p.n_services = VMP_MAX_SERVICES;
	for (unsigned i = 0; i < VMP_MAX_SERVICES; i++)
		p.service[i] = (struct vmp_service){ .framing = "length-prefixed,width=8,little,inclusive,id=0+128", .port = 65535, .backend_port = 65535 };
	assert_null(vmp_relay_config_line(&c));
}

/* --- processes -------------------------------------------------------------------------------------------------------------------- */
static void a_relay_runs_and_is_stopped(void **state)
{
	struct vmp_relay *r;
	char path[256];
	int pidfd;

	(void)state;
	relays_up(program);
	r = start("good");
	assert_false(vmp_relay_greeted(r));
	assert_int_equal(await(VMP_RELAY_EV_HELLO)->port, 7701);
	assert_true(vmp_relay_greeted(r));
	vmp_relay_send(r, vmp_relay_fence_line(0x302, 0));
	assert_int_equal(await(VMP_RELAY_EV_READY)->epoch, 0x302);
	snprintf(path, sizeof(path), "%s/good.%08x.sock", dir, vmp_relay_instance(r));
	assert_int_equal(access(path, F_OK), 0);
	pidfd = pidfd_of(r);
	vmp_relay_stop(r);
	await_gone(pidfd);
	close(pidfd);
	assert_int_equal(access(path, F_OK), -1);
	assert_int_equal(n_got, 2); /* no LOST for what was asked for */
}

static void it_has_no_rights_but_one(void **state)
{
	char path[64], line[200];
	unsigned seen = 0;
	struct vmp_relay *r;
	FILE *f;

	(void)state;
	if (geteuid() != 0)
		skip();
	relays_up(program);
	r = start("good");
	await(VMP_RELAY_EV_HELLO);
	snprintf(path, sizeof(path), "/proc/%d/status", (int)vmp_relay_pid(r));
	f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		unsigned uid[4];

		if (sscanf(line, "Uid: %u %u %u %u", &uid[0], &uid[1], &uid[2], &uid[3]) == 4) {
			for (int i = 0; i < 4; i++)
				assert_int_equal(uid[i], vmp_relays_uid(relays));
			seen++;
		}
		for (unsigned i = 0; i < 3; i++)
			if (!strncmp(line, (const char *[]){ "CapPrm:", "CapEff:", "CapAmb:" }[i], 7)) {
				assert_int_equal(strtoull(line + 7, NULL, 16), 1u << 10);
				seen++;
			}
		if (!strncmp(line, "Groups:", 7)) {
			assert_true(strspn(line + 7, " \t\n") == strlen(line + 7));
			seen++;
		}
		if (!strncmp(line, "NoNewPrivs:", 11)) {
			assert_int_equal(atoi(line + 11), 1);
			seen++;
		}
	}
	fclose(f);
	assert_int_equal(seen, 6);
	assert_int_equal(getpgid(vmp_relay_pid(r)), vmp_relay_pid(r));
	vmp_relay_stop(r);
}

static void what_it_says_is_checked(void **state)
{
	const struct vmp_relay_event *ev;
	struct vmp_relay *r;

	(void)state;
	relays_up(program);
	r = start("talks");
	ev = await(VMP_RELAY_EV_CAUGHT);
	assert_true(ev->on && ev->node == 2 && ev->member == 0xfedcba9876543210 && ev->op == 7);
	assert_int_equal(n_got, 3); /* hello, one note about the nonsense, caught */
	assert_int_equal(got[1].type, VMP_RELAY_EV_NOTE);
	vmp_relay_stop(r);
}

static void its_end_is_told_once(void **state)
{
	static const struct { const char *pair, *why; } c[] = {
		{ "leaves", "status 3" }, { "floods", "too long" }, { "good", "signal 9" },
	};
	struct vmp_relay *r;

	(void)state;
	relays_up(program);
	for (unsigned i = 0; i < ARRAY_SIZE(c); i++) {
		const struct vmp_relay_event *ev;
		unsigned n_lost = 0;
		int pidfd;

		n_got = 0;
		r = start(c[i].pair);
		pidfd = pidfd_of(r);
		if (!strcmp(c[i].pair, "good")) {
			await(VMP_RELAY_EV_HELLO);
			vmp_proc_kill(pidfd, SIGKILL);
		}
		ev = await(VMP_RELAY_EV_LOST);
		if (!strstr(ev->text, c[i].why))
			fail_msg("%s: %s", c[i].pair, ev->text);
		await_gone(pidfd);
		for (unsigned k = 0; k < n_got; k++)
			n_lost += got[k].type == VMP_RELAY_EV_LOST;
		assert_int_equal(n_lost, 1);
		assert_int_equal(vmp_relay_send(r, vmp_relay_plain_line("rekey")), -EPIPE);
		vmp_relay_stop(r);
		close(pidfd);
	}
}

static void a_program_that_is_missing(void **state)
{
	struct vmp_relay *r = NULL;
	char reason[200] = "";
	const char *why;

	(void)state;
	relays_up("/nonexistent/relay");
	if (vmp_relay_start(relays, "good", strdup("{\"cmd\":\"config\"}\n"), on_event, NULL, &r, reason, sizeof(reason)) == 0)
		why = await(VMP_RELAY_EV_LOST)->text;
	else
		why = reason; /* it failed before it could be watched */
	if (!strstr(why, "/nonexistent/relay") || !strstr(why, "No such file"))
		fail_msg("%s", why);
	vmp_relay_stop(r);
}

static void one_that_does_not_stop_is_killed(void **state)
{
	struct vmp_relay *r;
	int pidfd;

	(void)state;
	relays_up(program);
	r = start("deaf");
	await(VMP_RELAY_EV_HELLO);
	pidfd = pidfd_of(r);
	vmp_relay_stop(r);
	await_gone(pidfd);
	close(pidfd);
}

/* The owner may give it up in the middle of its words. */
static void stopped_by_its_own_event(void **state)
{
	int pidfd;

	(void)state;
	relays_up(program);
	stop_at = start("talks");
	pidfd = pidfd_of(stop_at);
	await(VMP_RELAY_EV_HELLO);
	await_gone(pidfd);
	close(pidfd);
	assert_int_equal(n_got, 1);
}

static void the_next_daemon_adopts_it(void **state)
{
	struct vmp_relay *r, *again = NULL;
	char reason[200] = "", path[256];
	uint64_t ticks;
	uint32_t instance;
	pid_t pid;
	int pidfd;

	(void)state;
	relays_up(program);
	r = start("good");
	await(VMP_RELAY_EV_HELLO);
	pid = vmp_relay_pid(r);
	ticks = vmp_relay_start_time(r);
	instance = vmp_relay_instance(r);
	pidfd = pidfd_of(r);
	vmp_relays_free(relays); /* the daemon ends, the relay does not */
	relays_up(program);
	assert_int_equal(vmp_relay_adopt(relays, "good", instance, pid, ticks + 1, strdup("{\"cmd\":\"config\"}\n"), on_event, NULL, &again,
					 reason, sizeof(reason)), -ESRCH);
	assert_int_equal(vmp_relay_adopt(relays, "good", instance + 1, pid, ticks + 1, strdup("{\"cmd\":\"config\"}\n"), on_event, NULL,
					 &again, reason, sizeof(reason)), -ESRCH);
	assert_false(vmp_proc_gone(pidfd));
	assert_int_equal(vmp_relay_adopt(relays, "good", instance, pid, ticks, strdup("{\"cmd\":\"config\"}\n"), on_event, NULL, &again,
					 reason, sizeof(reason)), 0);
	assert_int_equal(await(VMP_RELAY_EV_HELLO)->pid, pid);
	vmp_proc_kill(pidfd, SIGKILL);
	assert_non_null(strstr(await(VMP_RELAY_EV_LOST)->text, "ended"));
	vmp_relay_stop(again);
	/* and one that nobody adopts is told to go */
	n_got = 0;
	close(pidfd);
	r = start("good");
	await(VMP_RELAY_EV_HELLO);
	snprintf(path, sizeof(path), "%s/good.%08x.sock", dir, vmp_relay_instance(r));
	pidfd = pidfd_of(r);
	vmp_relays_end_others(relays);
	assert_false(vmp_proc_gone(pidfd)); /* it has an owner */
	vmp_relays_free(relays);
	relays_up(program);
	vmp_relays_end_others(relays);
	assert_int_equal(vmp_proc_wait(pidfd, 5000), 0);
	assert_int_equal(access(path, F_OK), -1);
	close(pidfd);
}

/* In a guest: a channel instead of a process, and a relay that begins anew there is another content. */
static void a_channel_into_a_guest(void **state)
{
	struct sockaddr_un sa = { .sun_family = AF_UNIX };
	struct vmp_relay *r = NULL;
	char reason[200] = "";
	int l = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0), fd;

	(void)state;
	relays_up(program);
	snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/channel", dir);
	assert_int_equal(vmp_relay_attach(relays, "guest", sa.sun_path, 0, strdup("{\"cmd\":\"config\"}\n"), on_event, NULL, &r, reason,
					  sizeof(reason)), 0);
	assert_int_equal(bind(l, (struct sockaddr *)&sa, sizeof(sa)), 0);
	assert_int_equal(listen(l, 1), 0);
	if (fork() == 0) {
		fd = accept(l, NULL, NULL);
		say(fd, "{\"ev\":\"start\"}\n{\"ev\":\"hello\",\"sync_port\":7,\"pid\":5,\"instance\":\"0x99\"}\n");
		say(fd, "{\"ev\":\"start\"}\n");
		_exit(read(fd, reason, 1) < 0);
	}
	await(VMP_RELAY_EV_HELLO);
	assert_int_equal(vmp_relay_number(r), 0x99);
	assert_int_equal(vmp_relay_pid(r), 0);
	assert_non_null(strstr(await(VMP_RELAY_EV_LOST)->text, "anew"));
	vmp_relay_stop(r);
	/* a restarted daemon finds another one than it knew */
	assert_int_equal(vmp_relay_attach(relays, "guest", sa.sun_path, 0x99, strdup("{\"cmd\":\"config\"}\n"), on_event, NULL, &r, reason,
					  sizeof(reason)), 0);
	if (fork() == 0) {
		fd = accept(l, NULL, NULL);
		say(fd, "{\"ev\":\"hello\",\"sync_port\":7,\"pid\":5,\"instance\":\"0x98\"}\n");
		_exit(read(fd, reason, 1) < 0);
	}
	n_got = 0;
	assert_non_null(strstr(await(VMP_RELAY_EV_LOST)->text, "anew"));
	assert_int_equal(n_got, 1);
	vmp_relay_stop(r);
	close(l);
}

static void keys_of_a_pair(void **state)
{
	struct vmp_keys keys = { .count = 2, .send = 1, .key = { { .id = 1, .secret = { 1 } }, { .id = 7, .secret = { 2 } } } }, a, b, back;
	struct vmp_diag diag;
	char path[256];
	struct stat st;

	(void)state;
	relays_up(program);
	assert_int_equal(vmp_keys_derive(&keys, "vmpair relay", "web", &a), 0);
	assert_int_equal(vmp_keys_derive(&keys, "vmpair relay", "db", &b), 0);
	assert_true(a.count == 2 && a.send == 1 && a.key[1].id == 7);
	assert_memory_not_equal(a.key[0].secret, b.key[0].secret, VMP_KEY_LEN);
	assert_memory_not_equal(a.key[0].secret, a.key[1].secret, VMP_KEY_LEN);
	assert_memory_not_equal(a.key[0].secret, keys.key[0].secret, VMP_KEY_LEN);
	snprintf(path, sizeof(path), "%s/web.keys", dir);
	assert_int_equal(vmp_keys_write(path, &b, (uid_t)-1, (gid_t)-1), 0);
	assert_int_equal(vmp_keys_write(path, &a, (uid_t)-1, (gid_t)-1), 0);
	vmp_diag_init(&diag);
	assert_int_equal(vmp_keys_load(path, &back, &diag), 0);
	assert_memory_equal(back.key[1].secret, a.key[1].secret, VMP_KEY_LEN);
	assert_int_equal(vmp_keys_write(path, &a, vmp_relays_uid(relays), vmp_relays_gid(relays)), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_uid, vmp_relays_uid(relays));
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(events_are_read),
		cmocka_unit_test(bad_events_are_refused),
		cmocka_unit_test(commands_are_written),
		cmocka_unit_test_setup_teardown(a_relay_runs_and_is_stopped, setup, teardown),
		cmocka_unit_test_setup_teardown(it_has_no_rights_but_one, setup, teardown),
		cmocka_unit_test_setup_teardown(what_it_says_is_checked, setup, teardown),
		cmocka_unit_test_setup_teardown(its_end_is_told_once, setup, teardown),
		cmocka_unit_test_setup_teardown(a_program_that_is_missing, setup, teardown),
		cmocka_unit_test_setup_teardown(one_that_does_not_stop_is_killed, setup, teardown),
		cmocka_unit_test_setup_teardown(stopped_by_its_own_event, setup, teardown),
		cmocka_unit_test_setup_teardown(the_next_daemon_adopts_it, setup, teardown),
		cmocka_unit_test_setup_teardown(a_channel_into_a_guest, setup, teardown),
		cmocka_unit_test_setup_teardown(keys_of_a_pair, setup, teardown),
	};

	if (argc == 3 && !strcmp(argv[1], "--control-listen"))
		return play(argv[2]);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
