/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/log.h"
#include "daemon/loop.h"

static char order[64];
static unsigned n_order, n_before;
static struct vmp_loop *loop;

static void mark(char c)
{
	order[n_order++] = c;
}

static void fire(void *data)
{
	mark(*(const char *)data);
	if (*(const char *)data == 'c')
		vmp_loop_stop(loop);
}

static void before(void *data)
{
	(void)data;
	n_before++;
}

/* Timers fire by time and not before it, whatever the order in which they were armed; a deleted or moved one does not. */
static void timers_fire_in_order(void **state)
{
	struct vmp_timer a = { 0 }, b = { 0 }, c = { 0 }, gone = { 0 };
	uint64_t t0 = vmp_now_ns();

	(void)state;
	n_order = n_before = 0;
	assert_int_equal(vmp_loop_new(&loop), 0);
	vmp_loop_set_before_timers(loop, before, NULL);
	vmp_loop_timer(loop, &c, t0 + 30000000, fire, (char[]){ "c" });
	vmp_loop_timer(loop, &gone, t0 + 5000000, fire, (char[]){ "x" });
	vmp_loop_timer(loop, &a, t0 + 90000000, fire, (char[]){ "a" });
	vmp_loop_timer(loop, &b, t0 + 20000000, fire, (char[]){ "b" });
	vmp_loop_timer(loop, &a, t0 + 10000000, fire, (char[]){ "a" });
	vmp_loop_timer_del(loop, &gone);
	vmp_loop_run(loop);
	order[n_order] = '\0';
	assert_string_equal(order, "abc");
	assert_true(vmp_now_ns() - t0 >= 30000000);
	assert_true(n_before >= 1);
	vmp_loop_free(loop);
}

static int pipe_fd[2];

static void self_removing(int fd, short revents, void *data)
{
	char buf[8];

	(void)data;
	assert_true(revents & POLLIN);
	assert_true(read(fd, buf, sizeof(buf)) > 0);
	mark('p');
	vmp_loop_del_fd(loop, fd);
	close(fd);
	vmp_loop_stop(loop);
}

static void after(void *data)
{
	(void)data;
	mark('+');
}

static void callbacks_may_remove_themselves(void **state)
{
	(void)state;
	n_order = 0;
	assert_int_equal(vmp_loop_new(&loop), 0);
	vmp_loop_set_after(loop, after, NULL);
	assert_int_equal(pipe(pipe_fd), 0);
	assert_int_equal(vmp_loop_add_fd(loop, VMP_PRIO_MED, pipe_fd[0], POLLIN, self_removing, NULL), 0);
	assert_int_equal(vmp_loop_add_fd(loop, VMP_PRIO_MED, pipe_fd[0], POLLIN, self_removing, NULL), -EEXIST);
	assert_int_equal(vmp_loop_mod_fd(loop, 9999, POLLIN), -ENOENT);
	assert_int_equal(write(pipe_fd[1], "x", 1), 1);
	vmp_loop_run(loop);
	order[n_order] = '\0';
	assert_string_equal(order, "p+");
	close(pipe_fd[1]);
	vmp_loop_free(loop);
}

static void log_lines_are_single_and_complete(void **state)
{
	char buf[4096];
	ssize_t n;

	(void)state;
	assert_int_equal(pipe(pipe_fd), 0);
	assert_int_equal(vmp_log_open(pipe_fd[1], VMP_LOG_JOURNAL, LOG_NOTICE), 0);
	vmp_log(LOG_INFO, "not wanted");
	vmp_log(LOG_NOTICE, "two\nlines %d", 7);
	vmp_log_close();
	n = read(pipe_fd[0], buf, sizeof(buf) - 1);
	assert_true(n > 0);
	buf[n] = '\0';
	assert_string_equal(buf, "<5>two lines 7\n");
	close(pipe_fd[0]);
	close(pipe_fd[1]);
}

static void rate_limit_counts(void **state)
{
	struct vmp_ratelimit l = { 0 };

	(void)state;
	assert_int_equal(vmp_ratelimit_pass(&l, 100, 60), 1);
	assert_int_equal(vmp_ratelimit_pass(&l, 110, 60), 0);
	assert_int_equal(vmp_ratelimit_pass(&l, 159, 60), 0);
	assert_int_equal(vmp_ratelimit_pass(&l, 160, 60), 3);
	assert_int_equal(vmp_ratelimit_pass(&l, 300, 60), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(timers_fire_in_order),
		cmocka_unit_test(callbacks_may_remove_themselves),
		cmocka_unit_test(log_lines_are_single_and_complete),
		cmocka_unit_test(rate_limit_counts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
