/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Feeds files to a fuzz target: those named on the command line, or all of $srcdir/tests/fuzz/corpus/NAME. Prints TAP. */
#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "tests/fuzz/fuzz.h"

static unsigned int count;

static int run_file(const char *path)
{
	static uint8_t buf[1 << 20];
	uint8_t *exact;
	FILE *f = fopen(path, "rb");
	size_t n;

	if (!f) {
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
		return -1;
	}
	n = fread(buf, 1, sizeof(buf), f);
	fclose(f);
	/* A block of exactly that size: reading past it shows under a sanitizer or valgrind. */
	exact = malloc(n ? n : 1);
	if (!exact)
		return -1;
	memcpy(exact, buf, n);
	fprintf(stderr, "# %s\n", path);	/* the last one seen is the culprit */
	LLVMFuzzerTestOneInput(exact, n);
	free(exact);
	count++;
	return 0;
}

static int run_dir(const char *dir)
{
	struct dirent **list = NULL;
	int n = scandir(dir, &list, NULL, alphasort), r = 0;

	if (n < 0) {
		fprintf(stderr, "%s: %s\n", dir, strerror(errno));
		return -1;
	}
	for (int i = 0; i < n; i++) {
		char path[4096];

		snprintf(path, sizeof(path), "%s/%s", dir, list[i]->d_name);
		if (list[i]->d_name[0] != '.' && run_file(path) < 0)
			r = -1;
		free(list[i]);
	}
	free(list);
	return r;
}

int main(int argc, char **argv)
{
	const char *src = getenv("srcdir");
	char dir[4096];
	int r = 0;

	for (int i = 1; i < argc; i++) {
		struct stat st;

		if (stat(argv[i], &st) == 0 && S_ISDIR(st.st_mode))
			r |= run_dir(argv[i]);
		else
			r |= run_file(argv[i]);
	}
	if (argc == 1) {
		snprintf(dir, sizeof(dir), "%s/tests/fuzz/corpus/" FUZZ_NAME, src ? src : ".");
		r = run_dir(dir);
		if (!count)
			r = -1;
	}
	printf("1..1\n%s 1 - %u inputs of " FUZZ_NAME "\n", r ? "not ok" : "ok", count);
	return r ? 1 : 0;
}
