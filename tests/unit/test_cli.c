/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The built vmpair against a control socket whose answers the test gives, and on files. Output and exit code as a user gets them. */
#include "daemon/ctl.h"
#include "pollloop.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#define CLI "./vmpair"

struct world {
	char dir[64], path[96], keys[96];
	struct pollloop *loop;
	struct vmp_ctl *ctl;
	json_t *last, *reply;		/* reply: given to the next requests */
	int rc;
	const char *reason;
	bool silent;
	unsigned requests, publish;
	char out[16384];		/* stdout and stderr together */
};

static void on_request(void *data, uint64_t token, const char *cmd, json_t *msg)
{
	struct world *w = data;
	json_t *copy = json_deep_copy(w->reply);
	w->requests++;
	json_decref(w->last);
	w->last = json_incref(msg);
	if (w->silent) {
		json_decref(copy);
	} else if (!strcmp(cmd, "events") && json_is_true(json_object_get(msg, "follow"))) {
		vmp_ctl_subscribe(w->ctl, token, json_string_value(json_object_get(msg, "pair")), copy);
		w->publish = 2;
	} else {
		vmp_ctl_reply(w->ctl, token, w->rc, w->reason, copy);
	}
}

static int setup(void **state)
{
	struct world *w = calloc(1, sizeof(*w));
	char reason[128];
	strcpy(w->dir, "/tmp/vmp-cli-XXXXXX");
	assert_non_null(mkdtemp(w->dir));
	snprintf(w->path, sizeof(w->path), "%s/sock", w->dir);
	snprintf(w->keys, sizeof(w->keys), "%s/keys", w->dir);
	w->loop = pollloop_new();
	struct vmp_ctl_params p = {.ops = pollloop_ops(w->loop), .path = w->path, .allow_uid = getuid(), .data = w, .request = on_request};
	assert_int_equal(vmp_ctl_new(&w->ctl, &p, reason, sizeof(reason)), 0);
	*state = w;
	return 0;
}

static int teardown(void **state)
{
	struct world *w = *state;
	char cmd[128];
	vmp_ctl_free(w->ctl);
	pollloop_free(w->loop);
	json_decref(w->last);
	json_decref(w->reply);
	snprintf(cmd, sizeof(cmd), "rm -rf %s", w->dir);
	assert_int_equal(system(cmd), 0);
	free(w);
	return 0;
}

static void set_reply(struct world *w, const char *text)
{
	json_error_t e;
	json_decref(w->reply);
	w->reply = json_loads(text, 0, &e);
	if (!w->reply)
		fail_msg("%s at %d", e.text, e.position);
}

/* Runs "vmpair ARGS" (split at blanks), serving the socket; returns the exit code, or -signal. */
static int run(struct world *w, const char *args)
{
	char copy[512], sock[128], *argv[24] = {(char *)CLI}, *save = NULL;
	const char *env[] = {sock, "TZ=UTC", "LC_ALL=C", NULL};
	int n = 1, out[2], in;
	snprintf(sock, sizeof(sock), "VMPAIR_SOCKET=%s", w->path);
	snprintf(copy, sizeof(copy), "%s", args);
	for (char *t = strtok_r(copy, " ", &save); t; t = strtok_r(NULL, " ", &save))
		argv[n++] = t;
	assert_int_equal(pipe2(out, O_CLOEXEC | O_NONBLOCK), 0);
	in = open("/dev/null", O_RDONLY | O_CLOEXEC);
	posix_spawn_file_actions_t fa;
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, in, 0);
	posix_spawn_file_actions_adddup2(&fa, out[1], 1);
	posix_spawn_file_actions_adddup2(&fa, out[1], 2);
	pid_t pid;
	assert_int_equal(posix_spawn(&pid, CLI, &fa, NULL, argv, (char **)env), 0);
	posix_spawn_file_actions_destroy(&fa);
	close(out[1]);
	close(in);
	size_t len = 0;
	memset(w->out, 0, sizeof(w->out));
	for (bool eof = false; !eof;) {
		struct pollfd p = {.fd = out[0], .events = POLLIN};
		if (poll(&p, 1, 1) > 0) {
			ssize_t r = read(out[0], w->out + len, sizeof(w->out) - 1 - len);
			eof = r == 0;
			len += r > 0 ? (size_t)r : 0;
		}
		if (!w->ctl)
			continue;
		pollloop_round(w->loop, 0);
		vmp_ctl_tick(w->ctl, pollloop_ops(w->loop)->now_ns(w->loop));
		/* a follower gets two events, then the daemon ends */
		if (w->publish && strstr(w->out, "backlog")) {
			json_t *e = json_pack("{s:I s:s s:s s:s s:s}", "ts", (json_int_t)1700000000123, "node", "n2", "pair", "web", "what", "bound",
					      "text", w->publish == 2 ? "live one" : "live two");
			vmp_ctl_publish(w->ctl, "web", e);
			json_decref(e);
			if (--w->publish == 0)
				w->ctl = vmp_ctl_free(w->ctl);
		}
	}
	close(out[0]);
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (w->ctl)
		while (pollloop_round(w->loop, 0) > 0)
			;
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static const char status_json[] =
	"{\"node\":{\"id\":1,\"name\":\"n1\",\"version\":\"0.1.0\",\"uptime_ms\":7300000,\"witness\":false},"
	"\"cluster\":{\"quorate\":true,\"corosync\":\"up\",\"pacemaker\":\"up\",\"libvirt\":\"up\",\"voters\":3,\"majority\":2,\"regime\":\"lease\","
	"\"regime_reason\":\"three or more voters\"},"
	"\"nodes\":[{\"id\":1,\"name\":\"n1\",\"voter\":true,\"online\":true,\"heard\":true},"
	"{\"id\":2,\"name\":\"n2\",\"voter\":true,\"online\":true,\"heard\":true,\"rtt_us\":430,"
	"\"links\":[{\"address\":\"10.1.0.2\",\"heard\":true},{\"address\":\"10.2.0.2\",\"heard\":false}]},"
	"{\"id\":3,\"name\":\"n3\",\"voter\":true,\"online\":false,\"heard\":false,\"refused\":4}],"
	"\"pairs\":[{\"name\":\"web\",\"rsc\":\"vm-web\",\"epoch\":1282,\"holder\":\"n2\",\"holder_id\":2,\"lease_left_ms\":null,\"entry_open\":true,"
	"\"mode\":\"sync\",\"sync\":\"n1\",\"frozen\":false,\"entries\":[\"10.0.0.10/24\"],\"members\":["
	"{\"node\":\"n1\",\"id\":1,\"role\":\"standby\",\"running\":true,\"ready\":true,\"pid\":77,\"internal\":\"192.168.77.1\",\"score\":1000},"
	"{\"node\":\"n2\",\"id\":2,\"role\":\"primary\",\"running\":true,\"ready\":false,\"pid\":78,\"internal\":\"192.168.77.2\",\"score\":null}],"
	"\"problems\":[\"something is wrong\"]}],\"problems\":[]}";

static void status_text_and_json(void **state)
{
	struct world *w = *state;
	set_reply(w, status_json);
	assert_int_equal(run(w, "status"), 0);
	static const char *const want[] = {
		"node n1 (1), vmpaird 0.1.0, up 2 h\n", "cluster: quorate, corosync up, pacemaker up, libvirt up\n",
		"voters: 3, majority 2; regime lease (three or more voters)\n", "round trip 0.43 ms link 10.2.0.2 SILENT\n", "OFFLINE  SILENT", "refused 4\n",
		"\npair web (resource vm-web): primary n2, standby n1 in sync\n", "  epoch 5.2, mode sync, entry 10.0.0.10/24 open\n",
		"  n1           standby   running  ready     pid 77      192.168.77.1    score 1000\n", "not ready pid 78", "  ! something is wrong\n",
	};
	for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++)
		if (!strstr(w->out, want[i]))
			fail_msg("no '%s' in:\n%s", want[i], w->out);
	assert_int_equal(run(w, "status --output=json web"), 0);
	assert_string_equal(json_string_value(json_object_get(w->last, "pair")), "web");
	json_t *j = json_loads(w->out, 0, NULL);
	assert_int_equal(json_integer_value(json_object_get(j, "rc")), 0);
	assert_true(json_equal(json_object_get(j, "pairs"), json_object_get(w->reply, "pairs")));
	json_decref(j);
	assert_int_equal(run(w, "--timeout=1s status -o json web"), 0);
	assert_int_equal(json_integer_value(json_object_get(w->last, "timeout_ms")), 1000);
	/* a daemon that says little is shown all the same */
	set_reply(w, "{\"pairs\":[{}],\"nodes\":[{}]}");
	assert_int_equal(run(w, "status"), 0);
	assert_non_null(strstr(w->out, "NO PRIMARY"));
	set_reply(w, "{\"pairs\":7,\"node\":[],\"problems\":[1]}");
	assert_int_equal(run(w, "status"), 0);
}

static void refusals_and_exit_codes(void **state)
{
	struct world *w = *state;
	w->reason = "the standby is not in sync";
	for (w->rc = 1; w->rc <= 6; w->rc++) {
		/* the daemon's "usage" is a refusal here: what was typed was well-formed */
		assert_int_equal(run(w, "switchover web"), w->rc == VMP_CTL_USAGE ? 1 : w->rc);
		assert_string_equal(w->out, "vmpair switchover: the standby is not in sync\n");
	}
	w->rc = 4;
	assert_int_equal(run(w, "why -o json nosuch"), 4);
	assert_non_null(strstr(w->out, "\"rc\": 4"));
	w->silent = true;
	assert_int_equal(run(w, "switchover web --timeout=50ms"), 5);
	w->silent = false;
	w->ctl = vmp_ctl_free(w->ctl);
	assert_int_equal(run(w, "status"), 3);
	assert_non_null(strstr(w->out, "does not run"));
}

static void usage_errors(void **state)
{
	struct world *w = *state;
	static const char *const bad[] = {
		"", "nonsense", "--nonsense", "status a b", "why", "switchover", "switchover --follow web", "status --output=xml", "events --limit=0",
		"events --limit=x", "status --timeout=0", "status --timeout=soon", "hold web", "hold 5s x y", "hold web soon", "hold --all web 5s", "unhold",
		"unhold --all web", "key", "key turn", "key use", "key use x", "key use 0", "key list 5", "key drop 70000", "keygen web", "force-primary",
	};
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		int rc = run(w, bad[i]);
		if (rc != 2)
			fail_msg("vmpair %s: exit code %d, %s", bad[i], rc, w->out);
		assert_non_null(strstr(w->out, "Usage"));
	}
	assert_int_equal(w->requests, 0);
}

static void help_everywhere(void **state)
{
	struct world *w = *state;
	static const char *const cmds[] = {"status", "events", "why", "switchover", "hold", "unhold", "force-primary", "keygen", "key", "check-config"};
	char args[64];
	assert_int_equal(run(w, "--help"), 0);
	assert_non_null(strstr(w->out, "Exit codes:"));
	for (size_t i = 0; i < sizeof(cmds) / sizeof(cmds[0]); i++) {
		assert_int_equal(run(w, "help"), 0);
		assert_non_null(strstr(w->out, cmds[i]));
		snprintf(args, sizeof(args), "%s --help", cmds[i]);
		assert_int_equal(run(w, args), 0);
		assert_int_equal(strncmp(w->out, "Usage: vmpair ", 14), 0);
	}
	assert_int_equal(run(w, "help why"), 0);
	assert_int_equal(strncmp(w->out, "Usage: vmpair why", 17), 0);
	assert_int_equal(run(w, "--version"), 0);
	assert_int_equal(strncmp(w->out, "vmpair ", 7), 0);
	assert_int_equal(w->requests, 0);
}

static void operator_actions(void **state)
{
	struct world *w = *state;
	set_reply(w, "{\"from\":\"n1\",\"to\":\"n2\",\"epoch\":1538,\"until_ms\":3000}");
	assert_int_equal(run(w, "switchover web"), 0);
	assert_string_equal(w->out, "web moved from n1 to n2 (epoch 6.2)\n");
	assert_int_equal(run(w, "hold web 3s"), 0);
	assert_int_equal(json_integer_value(json_object_get(w->last, "ms")), 3000);
	assert_string_equal(w->out, "held for 3000 ms\n");
	assert_int_equal(run(w, "hold --all 2500ms"), 0);
	assert_null(json_object_get(w->last, "pair"));
	assert_int_equal(run(w, "unhold web"), 0);
	unsigned n = w->requests;
	assert_int_equal(run(w, "force-primary web"), 1);	/* not asked: no terminal */
	assert_int_equal(w->requests, n);
	assert_int_equal(run(w, "force-primary --yes web"), 0);
	assert_true(json_is_true(json_object_get(w->last, "yes")));
	assert_string_equal(w->out, "primary by force (epoch 6.2)\n");
	set_reply(w, "{\"key_id\":7,\"nodes\":[\"n1\",\"n2\"]}");
	assert_int_equal(run(w, "key rotate"), 0);
	assert_string_equal(json_string_value(json_object_get(w->last, "cmd")), "key-rotate");
	assert_int_equal(strncmp(w->out, "key 7 is in use on n1 n2;", 25), 0);
}

static void why_text(void **state)
{
	struct world *w = *state;
	set_reply(w, "{\"pair\":\"web\",\"epoch\":1538,\"cause\":\"qemu ended\",\"node\":\"n2\",\"t0_ns\":1,\"took_ms\":23.44,\"missing\":[\"n3\"],\"events\":["
		     "{\"t_ms\":0.0,\"node\":\"n1\",\"what\":\"detected\",\"text\":\"qemu ended\"},"
		     "{\"t_ms\":23.44,\"node\":\"n2\",\"what\":\"bound\",\"text\":\"entry open\"}]}");
	assert_int_equal(run(w, "why web"), 0);
	assert_string_equal(w->out,
		"pair web, epoch 6.2: primary is n2, entry bound 23.4 ms after the first sign\ncause: qemu ended\n\n"
		"        ms  node       what        \n       0.0  n1         detected     qemu ended\n      23.4  n2         bound        entry open\n\n"
		"not heard, so its part is missing: n3\n");
}

static void events_listed_and_followed(void **state)
{
	struct world *w = *state;
	set_reply(w, "{\"events\":[{\"ts\":1700000000007,\"node\":\"n1\",\"pair\":\"\",\"what\":\"daemon\",\"text\":\"backlog\"}]}");
	assert_int_equal(run(w, "events -n 5"), 0);
	assert_string_equal(w->out, "2023-11-14 22:13:20.007  n1         -            daemon       backlog\n");
	assert_int_equal(json_integer_value(json_object_get(w->last, "limit")), 5);
	/* ends because the daemon ends */
	assert_int_equal(run(w, "events --follow --output=json web"), 3);
	char *save = NULL, *line = strtok_r(w->out, "\n", &save);
	unsigned n = 0;
	for (; line && line[0] == '{'; line = strtok_r(NULL, "\n", &save)) {
		json_t *j = json_loads(line, 0, NULL);
		assert_string_equal(json_string_value(json_object_get(j, "text")), n == 0 ? "backlog" : n == 1 ? "live one" : "live two");
		json_decref(j);
		n++;
	}
	assert_int_equal(n, 3);
}

static void keys_on_this_node(void **state)
{
	struct world *w = *state;
	char args[256];
	struct stat st;
	snprintf(args, sizeof(args), "keygen --file=%s", w->keys);
	assert_int_equal(run(w, args), 0);
	assert_int_equal(stat(w->keys, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(run(w, args), 1);
	assert_non_null(strstr(w->out, "--force"));
	static const struct { const char *args; int rc; const char *say; } steps[] = {
		{"key add", 0, "key 2 added"}, {"key drop 1", 1, "vmpair key use ID"}, {"key use 2", 0, "key 2 is used"}, {"key use 9", 4, "has no key of that ID"},
		{"key drop 1", 0, "key 1 dropped"}, {"key drop 1", 4, "has no key of that ID"}, {"key add", 0, ""}, {"key add", 0, ""}, {"key add", 0, ""},
		{"key add", 1, "key drop"}, {"key list", 0, "used for sending"},
	};
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
		snprintf(args, sizeof(args), "%s --file=%s", steps[i].args, w->keys);
		int rc = run(w, args);
		if (rc != steps[i].rc || !strstr(w->out, steps[i].say))
			fail_msg("vmpair %s: %d %s", steps[i].args, rc, w->out);
	}
	snprintf(args, sizeof(args), "key list --output=json --file=%s", w->keys);
	assert_int_equal(run(w, args), 0);
	json_t *j = json_loads(w->out, 0, NULL);
	assert_int_equal(json_array_size(json_object_get(j, "keys")), 4);
	json_decref(j);
	assert_int_equal(chmod(w->keys, 0644), 0);
	assert_int_equal(run(w, args), 1);
	assert_non_null(strstr(w->out, "600"));
}

static void configuration_is_checked(void **state)
{
	struct world *w = *state;
	char args[256], conf[160];
	snprintf(args, sizeof(args), "keygen --file=%s", w->keys);
	assert_int_equal(run(w, args), 0);
	snprintf(conf, sizeof(conf), "%s/vmpaird.conf", w->dir);
	FILE *f = fopen(conf, "we");
	fprintf(f, "key_file = %s\n", w->keys);
	fclose(f);
	snprintf(args, sizeof(args), "check-config --file=%s", conf);
	assert_int_equal(run(w, args), 0);
	f = fopen(conf, "ae");
	fprintf(f, "colour = red\nhb_ms = fast\n");
	fclose(f);
	assert_int_equal(run(w, args), 1);
	assert_non_null(strstr(w->out, "vmpaird.conf:2: "));
	assert_non_null(strstr(w->out, "vmpaird.conf:3: "));
}

int main(void)
{
	if (access(CLI, X_OK) < 0) {
		printf("%s is not here: run from the build directory\n", CLI);
		return 77;
	}
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(status_text_and_json, setup, teardown),
		cmocka_unit_test_setup_teardown(refusals_and_exit_codes, setup, teardown),
		cmocka_unit_test_setup_teardown(usage_errors, setup, teardown),
		cmocka_unit_test_setup_teardown(help_everywhere, setup, teardown),
		cmocka_unit_test_setup_teardown(operator_actions, setup, teardown),
		cmocka_unit_test_setup_teardown(why_text, setup, teardown),
		cmocka_unit_test_setup_teardown(events_listed_and_followed, setup, teardown),
		cmocka_unit_test_setup_teardown(keys_on_this_node, setup, teardown),
		cmocka_unit_test_setup_teardown(configuration_is_checked, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
