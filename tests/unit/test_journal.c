/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/journal.h"
#include "daemon/log.h"

static void ev(json_t *a, const char *node, uint64_t ms, uint64_t epoch, const char *what, const char *text)
{
	json_array_append_new(a, json_pack("{s:I s:I s:I s:I s:s s:s s:s s:s}", "seq", (json_int_t)0, "t_ns",
					   (json_int_t)(ms * 1000000 + 1700000000000000000), "mono_ns", (json_int_t)0, "epoch",
					   (json_int_t)epoch, "node", node, "pair", "p1", "what", what, "text", text));
}

/* Two nodes' events, out of order, with an earlier change before: only the last change is told, in order, from its cause on. */
static void why_merges_the_last_change(void **state)
{
	json_t *a = json_array(), *why, *list;

	(void)state;
	ev(a, "n2", 1000, 258, "cause", "old one");
	ev(a, "n2", 1003, 258, "bound", "");
	ev(a, "n1", 1004, 258, "in-sync", "");
	ev(a, "n1", 9007, 513, "bound", "entry open");
	ev(a, "n1", 9300, 513, "agreed", "Pacemaker");
	ev(a, "n2", 9000, 0, "cause", "VM exited");
	ev(a, "n2", 9001, 258, "unbound", "");
	ev(a, "n1", 9004, 513, "claimed", "");
	why = vmp_journal_why(a, "p1");
	assert_non_null(why);
	assert_int_equal(json_integer_value(json_object_get(why, "epoch")), 513);
	assert_string_equal(json_string_value(json_object_get(why, "cause")), "VM exited");
	list = json_object_get(why, "events");
	assert_int_equal(json_array_size(list), 5);
	assert_string_equal(json_string_value(json_object_get(json_array_get(list, 0), "what")), "cause");
	assert_string_equal(json_string_value(json_object_get(json_array_get(list, 4), "what")), "agreed");
	assert_true(json_real_value(json_object_get(json_array_get(list, 3), "t_ms")) == 7.0);
	assert_true(json_real_value(json_object_get(why, "took_ms")) == 7.0);
	json_decref(why);
	assert_null(vmp_journal_why(a, "other"));
	json_decref(a);
}

static unsigned events_in(const char *path) /* and nothing else */
{
	FILE *f = fopen(path, "re");
	char line[4096];
	unsigned n = 0;

	assert_non_null(f);
	for (; fgets(line, sizeof(line), f); n++) {
		json_t *o = json_loads(line, 0, NULL);

		assert_non_null(o);
		json_decref(o);
		assert_int_equal(line[strlen(line) - 1], '\n');
	}
	fclose(f);
	return n;
}

static void survives_a_restart_and_a_torn_line(void **state)
{
	char dir[] = "/tmp/vmpair-journal-XXXXXX", path[64], warning[200];
	struct vmp_journal *j;
	json_t *a;
	FILE *f;

	(void)state;
	assert_non_null(mkdtemp(dir));
	assert_int_equal(vmp_journal_new(&j, dir, "n1", warning, sizeof(warning)), 0);
	assert_string_equal(warning, "");
	vmp_journal_add(j, "p1", 513, "bound", "entry \"open\"\n%d", 7);
	vmp_journal_add(j, "p2", 514, "bound", "x");
	vmp_journal_free(j);
	snprintf(path, sizeof(path), "%s/events.jsonl", dir);
	f = fopen(path, "a");
	assert_non_null(f);
	fputs("{\"t_ns\": 12, \"mo", f);
	fclose(f);
	assert_int_equal(vmp_journal_new(&j, dir, "n1", warning, sizeof(warning)), 0);
	a = vmp_journal_list(j, "p1", 10);
	assert_int_equal(json_array_size(a), 1);
	assert_string_equal(json_string_value(json_object_get(json_array_get(a, 0), "text")), "entry \"open\"\n7");
	json_decref(a);
	a = vmp_journal_list(j, NULL, 1); /* the newest */
	assert_int_equal(json_array_size(a), 1);
	assert_string_equal(json_string_value(json_object_get(json_array_get(a, 0), "pair")), "p2");
	json_decref(a);
	vmp_journal_add(j, "p1", 515, "bound", "after it");
	vmp_journal_free(j);
	assert_int_equal(events_in(path), 3); /* and half a line spoils no other */
	assert_int_equal(truncate(path, 12), 0);
	assert_int_equal(vmp_journal_new(&j, dir, "n1", warning, sizeof(warning)), 0);
	vmp_journal_add(j, "p1", 515, "bound", "the first whole one");
	vmp_journal_free(j);
	assert_int_equal(events_in(path), 1);
	unlink(path);
	rmdir(dir);
}

/* No room for the whole line (here by a limit, as tmpfs does it at its end): nothing of it is left, and later ones are whole. */
static void a_full_disk_spoils_no_line(void **state)
{
	char dir[] = "/tmp/vmpair-journal-XXXXXX", path[64], warning[200], said[200] = "";
	struct rlimit was, limit;
	struct vmp_journal *j;
	struct stat st;
	int log[2];

	(void)state;
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/events.jsonl", dir);
	signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(pipe(log), 0);
	assert_int_equal(vmp_journal_new(&j, dir, "n1", warning, sizeof(warning)), 0);
	vmp_journal_add(j, "p1", 513, "bound", "x");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
	limit = (struct rlimit){ .rlim_cur = (rlim_t)st.st_size + 20, .rlim_max = was.rlim_max };
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	assert_int_equal(vmp_log_open(log[1], VMP_LOG_PLAIN, LOG_INFO), 0);
	vmp_journal_add(j, "p1", 513, "unbound", "lost");
	vmp_log_close();
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
	assert_true(read(log[0], said, sizeof(said) - 1) > 0);
	assert_string_equal(said, "(events not written: 1, File too large; they are kept in memory only)\n");
	assert_int_equal(events_in(path), 1);
	vmp_journal_add(j, "p1", 769, "bound", "room again");
	assert_int_equal(events_in(path), 2);
	vmp_journal_free(j);
	close(log[0]);
	close(log[1]);
	unlink(path);
	rmdir(dir);
}

static void goes_on_without_a_file(void **state)
{
	char warning[200];
	struct vmp_journal *j;
	json_t *a;

	(void)state;
	assert_int_equal(vmp_journal_new(&j, "/nonexistent/dir", "n1", warning, sizeof(warning)), 0);
	assert_non_null(strstr(warning, "/nonexistent/dir/events.jsonl"));
	for (unsigned i = 0; i < 5000; i++)
		vmp_journal_add(j, "p1", i, "x", "%u", i);
	a = vmp_journal_list(j, "p1", 10000);
	assert_int_equal(json_array_size(a), 4096);
	assert_string_equal(json_string_value(json_object_get(json_array_get(a, 4095), "text")), "4999");
	json_decref(a);
	vmp_journal_free(j);
}

/* What libvirt says, or what was cut within a character, must not make an event vanish. */
static void text_of_any_bytes_stays_an_event(void **state)
{
	static const struct { const char *in, *out; } cases[] = {
		{ "plain", "plain" },
		{ "Gr\xc3\xbc\xc3\x9f" "e \xe2\x82\xac \xf0\x9f\x98\x80", "Gr\xc3\xbc\xc3\x9f" "e \xe2\x82\xac \xf0\x9f\x98\x80" },
		{ "cut \xc3", "cut ?" },
		{ "cut \xe2\x82", "cut ??" },
		{ "latin \xfc!", "latin ?!" },
		{ "over \xc0\xaf \xe0\x80\xaf", "over ?? ???" },
		{ "\xed\xa0\x80", "???" },
		{ "\xf4\x90\x80\x80", "????" },
	};
	struct vmp_journal *j;
	char long_text[400], warning[100];
	json_t *list;

	(void)state;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		char buf[64];

		snprintf(buf, sizeof(buf), "%s", cases[i].in);
		vmp_text_clean(buf);
		assert_string_equal(buf, cases[i].out);
	}
	assert_int_equal(vmp_journal_new(&j, NULL, "n1", warning, sizeof(warning)), 0);
	for (size_t i = 0; i + 2 < sizeof(long_text); i += 2)
		memcpy(long_text + i, "\xc3\xbc", 2);
	long_text[sizeof(long_text) - 2] = '\0';
	vmp_journal_add(j, "p1", 0, "x", "%s", long_text);
	vmp_journal_add(j, "p1", 0, "x", ".%s", long_text);
	list = vmp_journal_list(j, "p1", 10);
	assert_int_equal(json_array_size(list), 2);
	json_decref(list);
	vmp_journal_free(j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(why_merges_the_last_change),
		cmocka_unit_test(survives_a_restart_and_a_torn_line),
		cmocka_unit_test(a_full_disk_spoils_no_line),
		cmocka_unit_test(goes_on_without_a_file),
		cmocka_unit_test(text_of_any_bytes_stays_an_event),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
