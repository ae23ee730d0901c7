/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "daemon/hostwatch.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char dir[] = "/tmp/vmp-hostwatch-XXXXXX";

static void put(const char *name, const char *text)
{
	char path[200];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void next(struct vmp_hostwatch *w)
{
	uint64_t from = vmp_hostwatch_serial(w);

	while (vmp_hostwatch_serial(w) < from + 2) /* one that was begun before does not count */
		usleep(5000);
}

static int begin(void **state)
{
	static struct vmp_hostwatch_paths paths;
	struct vmp_hostwatch *w;
	char path[200];
	(void)state;

	assert_non_null(mkdtemp(dir));
	for (const char *const *p = (const char *const[]){ "eth0", "pressure", NULL }; *p; p++) {
		snprintf(path, sizeof(path), "%s/%s", dir, *p);
		assert_int_equal(mkdir(path, 0700), 0);
	}
	put("loadavg", "3.50 1.00 0.50 2/345 6789\n");
	put("pressure/cpu", "some avg10=72.19 avg60=3.11 avg300=1.00 total=123\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n");
	put("pressure/io", "nonsense\n");
	put("eth0/carrier", "1\n");
	paths = (struct vmp_hostwatch_paths){ dir, dir };
	assert_int_equal(vmp_hostwatch_new(&w, &paths), 0);
	*state = w;
	return 0;
}

static int end(void **state)
{
	char command[200];

	vmp_hostwatch_free(*state);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	return system(command);
}

static void load(void **state)
{
	struct vmp_hostwatch *w = *state;
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	next(w);
	assert_int_equal(vmp_hostwatch_load(w, VMP_LOAD_CPU), 72);
	assert_int_equal(vmp_hostwatch_load(w, VMP_LOAD_AVERAGE), 350 / cpus);
	assert_int_equal(vmp_hostwatch_load(w, VMP_LOAD_IO), -EBADMSG);
	assert_int_equal(vmp_hostwatch_load(w, VMP_LOAD_MEMORY), -ENOENT);
	put("pressure/memory", "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n");
	next(w);
	assert_int_equal(vmp_hostwatch_load(w, VMP_LOAD_MEMORY), 0);
}

static void carrier(void **state)
{
	struct vmp_hostwatch *w = *state;

	assert_int_equal(vmp_hostwatch_carrier(w, "eth0"), -ENODATA);
	assert_int_equal(vmp_hostwatch_carrier(w, "eth1"), -ENODATA);
	next(w);
	assert_int_equal(vmp_hostwatch_carrier(w, "eth0"), 1);
	assert_int_equal(vmp_hostwatch_carrier(w, "eth1"), -ENOENT);
	put("eth0/carrier", "0\n");
	next(w);
	assert_int_equal(vmp_hostwatch_carrier(w, "eth0"), 0);
	for (unsigned i = 2; i < VMP_HOSTWATCH_LINKS; i++) {
		char name[IFNAMSIZ];

		snprintf(name, sizeof(name), "x%u", i);
		assert_int_equal(vmp_hostwatch_carrier(w, name), -ENODATA);
	}
	assert_int_equal(vmp_hostwatch_carrier(w, "one-more"), -ENOSPC);
	assert_int_equal(vmp_hostwatch_carrier(w, "eth0"), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(load), cmocka_unit_test(carrier) };

	return cmocka_run_group_tests(tests, begin, end);
}
