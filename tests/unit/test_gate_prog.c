/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The shipped instructions: do they do what the gate promises (run by the kernel, as root), and are they what clang
 * makes of the C source beside them? Another clang may choose other instructions: then its program has to behave the
 * same.
 */
#include "config.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "daemon/tcbpf.h"
#include "internal/cleanup.h"

#define MAX_INSNS 64
#define SHOT 2U
#define UNSPEC 0xffffffffU

static unsigned int compiled(struct bpf_insn ret[MAX_INSNS])
{
	char path[] = "/tmp/vmpair-gate-XXXXXX", cmd[1024];
	CLEANUP_CLOSE int fd = mkstemp(path);
	static uint8_t elf[65536];
	ssize_t n;
	unsigned int count = 0;

	assert_true(fd >= 0);
	snprintf(cmd, sizeof cmd, "clang -O2 -target bpf -c '%s' -o %s 2>&1", GATE_BPF_SOURCE, path);
	if (system("clang --version >/dev/null 2>&1") || system(cmd)) {
		unlink(path);
		return 0;
	}
	/* The compiler may have made the file anew. */
	close(TAKE_FD(fd));
	FILE *f = fopen(path, "re");

	assert_non_null(f);
	n = (ssize_t)fread(elf, 1, sizeof elf, f);
	fclose(f);
	unlink(path);
	assert_true(n > (ssize_t)sizeof(Elf64_Ehdr));
	const Elf64_Ehdr *eh = (const void *)elf;
	const Elf64_Shdr *sh = (const void *)(elf + eh->e_shoff);

	assert_true(eh->e_shoff + eh->e_shnum * sizeof *sh <= (size_t)n);
	for (unsigned int i = 0; i < eh->e_shnum; i++) {
		const char *name = (const char *)elf + sh[eh->e_shstrndx].sh_offset + sh[i].sh_name;

		if (sh[i].sh_type != SHT_PROGBITS || strcmp(name, "tc"))
			continue;
		count = (unsigned int)(sh[i].sh_size / sizeof *ret);
		assert_true(count <= MAX_INSNS);
		memcpy(ret, elf + sh[i].sh_offset, count * sizeof *ret);
	}
	/* The one relocation, to the map's value. */
	for (unsigned int i = 0; i < count; i++)
		if (ret[i].code == (BPF_LD | BPF_IMM | BPF_DW))
			ret[i].src_reg = BPF_PSEUDO_MAP_VALUE;
	return count;
}

static uint32_t verdict(int prog_fd)
{
	uint8_t frame[64] = { 0 };
	union bpf_attr a;

	memset(&a, 0, sizeof a);
	a.test.prog_fd = (uint32_t)prog_fd;
	a.test.data_in = (uint64_t)(uintptr_t)frame;
	a.test.data_size_in = sizeof frame;
	assert_true(syscall(SYS_bpf, BPF_PROG_TEST_RUN, &a, sizeof a) >= 0);
	return a.test.retval;
}

static void behaves(const struct bpf_insn *insns, unsigned int n)
{
	CLEANUP_CLOSE int map = vmp_tcbpf_map_new();
	CLEANUP_CLOSE int prog = -1;
	struct timespec t;
	uint64_t now, *word;
	char log[4096] = "";

	assert_true(map >= 0);
	prog = vmp_tcbpf_prog_load(map, insns, n, log, sizeof log);
	if (prog < 0)
		print_message("%s\n", log);
	assert_true(prog >= 0);
	word = vmp_tcbpf_map_mmap(map);
	assert_non_null(word);
	clock_gettime(CLOCK_BOOTTIME, &t);
	now = (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
	assert_int_equal(verdict(prog), SHOT);
	*word = now - 1;
	assert_int_equal(verdict(prog), SHOT);
	*word = now + 3600 * 1000000000ULL;
	assert_int_equal(verdict(prog), UNSPEC);
	*word = UINT64_MAX; /* unsigned: the far future, not -1 */
	assert_int_equal(verdict(prog), UNSPEC);
	assert_int_equal(vmp_tcbpf_map_set(map, 1), 0);
	assert_int_equal(verdict(prog), SHOT);
	*word = 0;
	assert_int_equal(verdict(prog), SHOT);
	vmp_tcbpf_map_munmap(word);
}

static bool can_load(void)
{
	CLEANUP_CLOSE int map = vmp_tcbpf_map_new();

	return map >= 0;
}

static void shipped(void **state)
{
	(void)state;
	if (!can_load())
		skip();
	behaves(vmp_tcbpf_insns, vmp_tcbpf_n_insns);
}

static void as_compiled(void **state)
{
	struct bpf_insn insns[MAX_INSNS];
	unsigned int n = compiled(insns);

	(void)state;
	if (!n)
		skip();
	if (n == vmp_tcbpf_n_insns && !memcmp(insns, vmp_tcbpf_insns, n * sizeof *insns))
		return;
	print_message("# this clang makes %u other instructions\n", n);
	if (!can_load())
		skip();
	behaves(insns, n);
}

int main(void)
{
	static const struct CMUnitTest tests[] = { cmocka_unit_test(shipped), cmocka_unit_test(as_compiled) };

	return cmocka_run_group_tests(tests, NULL, NULL);
}
