/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Both sides of the role page: what vmpaird writes, what an application reads. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "daemon/rolepage.h"
#include "tests/unit/testdir.h"
#include "vmpair/role.h"

static uint64_t boottime(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_BOOTTIME, &ts);
	return (uint64_t)ts.tv_sec * 1000000000ull + (uint64_t)ts.tv_nsec;
}

static void test_page(void **state)
{
	struct vmpair_role_page *r;
	struct vmp_rolepage *w;
	struct vmpair_role_info i;
	const char *dir = testdir;

	(void)state;
	assert_int_equal(vmpair_role_open(&r, dir, "web"), -ENOENT);
	assert_int_equal(vmpair_role_open(&r, dir, "../web"), -EINVAL);
	assert_int_equal(vmpair_role_open(&r, dir, ""), -EINVAL);
	assert_int_equal(vmp_rolepage_open(&w, dir, "web"), 0);
	assert_int_equal(vmpair_role_open(&r, dir, "web"), 0);
	assert_int_equal(vmpair_role_read(r, &i), 0);
	assert_true(!i.primary && !i.epoch && !i.left_ns);
	vmp_rolepage_set(w, 513, boottime() + 60000000000ull);
	assert_int_equal(vmpair_role_read(r, &i), 0);
	assert_true(i.primary && i.epoch == 513 && i.left_ns > 50000000000ull && i.left_ns <= 60000000000ull);
	/* the daemon dies: the lease ends by itself */
	vmp_rolepage_set(w, 513, boottime() + 1000000);
	w = vmp_rolepage_free(w);
	do
		assert_int_equal(vmpair_role_read(r, &i), 0);
	while (i.primary && i.left_ns <= 1000000);
	assert_true(!i.primary && i.epoch == 513 && !i.left_ns);
	/* the next one goes on with the same page */
	assert_int_equal(vmp_rolepage_open(&w, dir, "web"), 0);
	vmp_rolepage_set(w, 769, boottime() + 60000000000ull);
	assert_int_equal(vmpair_role_read(r, &i), 0);
	assert_true(i.primary && i.epoch == 769);
	vmp_rolepage_set(w, 769, 0);
	assert_int_equal(vmpair_role_read(r, &i), 0);
	assert_false(i.primary);
	vmp_rolepage_remove(w, dir, "web");
	assert_int_equal(vmpair_role_read(r, &i), -ESTALE);
	vmpair_role_close(r);
	assert_int_equal(vmpair_role_open(&r, dir, "web"), -ENOENT);
}

static void test_not_a_page(void **state)
{
	struct vmpair_role_page *r;
	const char *dir = testdir;
	char path[512];
	FILE *f;

	(void)state;
	snprintf(path, sizeof(path), "%s/bad", dir);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs("primary\n", f);
	fclose(f);
	assert_int_equal(vmpair_role_open(&r, dir, "bad"), -EPROTO);
	assert_int_equal(truncate(path, 4096), 0);
	assert_int_equal(vmpair_role_open(&r, dir, "bad"), -EPROTO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_page),
		cmocka_unit_test(test_not_a_page),
	};

	return cmocka_run_group_tests(tests, testdir_make, testdir_remove);
}
