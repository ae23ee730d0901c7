/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A directory of its own for a test: made by setup, removed with all it holds by teardown (cmocka group or test fixtures). */
#ifndef VMP_TESTDIR_H
#define VMP_TESTDIR_H

#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char testdir[128];

__attribute__((unused)) static int testdir_make(void **state)
{
	const char *base = getenv("TMPDIR");

	(void)state;
	if (!base)
		base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";	/* syncing a disk would only take time */
	snprintf(testdir, sizeof(testdir), "%s/vmpair-test-XXXXXX", base);
	return mkdtemp(testdir) ? 0 : -1;
}

__attribute__((unused)) static int testdir_rm(const char *path, const struct stat *st, int flag, struct FTW *f)
{
	(void)st;
	(void)flag;
	(void)f;
	return remove(path);
}

__attribute__((unused)) static int testdir_remove(void **state)
{
	(void)state;
	return nftw(testdir, testdir_rm, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* testdir/name, in one of four rotating buffers. */
__attribute__((unused)) static const char *testdir_path(const char *name)
{
	static char buf[4][256];
	static unsigned int turn;
	char *p = buf[turn++ % 4];

	snprintf(p, sizeof(buf[0]), "%s/%s", testdir, name);
	return p;
}

__attribute__((unused)) static void testdir_write(const char *path, const char *text, unsigned int mode)
{
	FILE *f = fopen(path, "w");

	if (!f || fputs(text, f) < 0 || fclose(f) != 0 || chmod(path, mode) != 0)
		abort();
}

#endif
