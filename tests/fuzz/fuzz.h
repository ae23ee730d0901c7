/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One entry for both mains: libFuzzer's (--enable-fuzzers) and replay.c, which runs the corpus in `make check`. */
#ifndef VMP_FUZZ_H
#define VMP_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Independent of NDEBUG. */
#define MUST(cond) \
	do { \
		if (!(cond)) { \
			fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #cond); \
			abort(); \
		} \
	} while (0)

#endif
