/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The shipped instructions: do they do what the gate promises (run by the kernel, as root), and are they what clang
 * makes of the C sources beside them? Another clang may choose other instructions: then its programs have to behave the
 * same. `--print` prints what this clang makes of host.bpf.c, as daemon/tcbpf_host.c has it.
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

#define MAX_INSNS 256
#define SHOT 2U
#define UNSPEC 0xffffffffU
#define S 1000000000ULL

static const void *at(const uint8_t *elf, size_t n, uint64_t off, uint64_t len)
{
	assert_true(off <= n && len <= n - off);
	return elf + off;
}

/* Instructions of section "tc"; where they refer to a map, src_reg tells to which. */
static unsigned int compiled(const char *source, const char *option, struct bpf_insn ret[MAX_INSNS])
{
	char path[] = "/tmp/vmpair-gate-XXXXXX", cmd[1024];
	CLEANUP_CLOSE int fd = mkstemp(path);
	static uint8_t elf[65536];
	unsigned int count = 0;
	size_t n;

	assert_true(fd >= 0);
	snprintf(cmd, sizeof cmd, "clang -O2 %s -target bpf -c '%s' -o %s 2>&1", option, source, path);
	if (system("clang --version >/dev/null 2>&1") || system(cmd)) {
		unlink(path);
		return 0;
	}
	/* The compiler may have made the file anew. */
	close(TAKE_FD(fd));
	FILE *f = fopen(path, "re");

	assert_non_null(f);
	n = fread(elf, 1, sizeof elf, f);
	fclose(f);
	unlink(path);
	const Elf64_Ehdr *eh = at(elf, n, 0, sizeof *eh);
	const Elf64_Shdr *sh = at(elf, n, eh->e_shoff, eh->e_shnum * sizeof *sh);

	for (unsigned int i = 0; i < eh->e_shnum; i++) {
		const char *name = (const char *)elf + sh[eh->e_shstrndx].sh_offset + sh[i].sh_name;

		if (sh[i].sh_type != SHT_PROGBITS || strcmp(name, "tc"))
			continue;
		count = (unsigned int)(sh[i].sh_size / sizeof *ret);
		assert_true(count <= MAX_INSNS);
		memcpy(ret, at(elf, n, sh[i].sh_offset, sh[i].sh_size), count * sizeof *ret);
	}
	for (unsigned int i = 0; i < eh->e_shnum; i++) {
		const char *name = (const char *)elf + sh[eh->e_shstrndx].sh_offset + sh[i].sh_name;
		const Elf64_Rel *rel;

		if (sh[i].sh_type != SHT_REL || strcmp(name, ".reltc"))
			continue;
		rel = at(elf, n, sh[i].sh_offset, sh[i].sh_size);
		for (unsigned int k = 0; k < sh[i].sh_size / sizeof *rel; k++) {
			const Elf64_Shdr *st = &sh[sh[i].sh_link];
			const Elf64_Sym *sym = (const Elf64_Sym *)at(elf, n, st->sh_offset, st->sh_size) + ELF64_R_SYM(rel[k].r_info);
			const char *of = (const char *)elf + sh[st->sh_link].sh_offset + sym->st_name;

			assert_true(!strcmp(of, "expiry") || !strcmp(of, "addrs"));
			ret[rel[k].r_offset / sizeof *ret].src_reg = of[0] == 'e' ? BPF_PSEUDO_MAP_VALUE : BPF_PSEUDO_MAP_FD;
		}
	}
	return count;
}

/* False: the kernel does not take this frame for a test. */
static bool verdict_of(int prog_fd, const uint8_t *frame, size_t len, uint32_t *ret)
{
	union bpf_attr a;

	memset(&a, 0, sizeof a);
	a.test.prog_fd = (uint32_t)prog_fd;
	a.test.data_in = (uint64_t)(uintptr_t)frame;
	a.test.data_size_in = (uint32_t)len;
	if (syscall(SYS_bpf, BPF_PROG_TEST_RUN, &a, sizeof a) < 0) {
		assert_int_equal(errno, EINVAL);
		return false;
	}
	*ret = a.test.retval;
	return true;
}

static uint32_t verdict(int prog_fd, const uint8_t *frame, size_t len)
{
	uint32_t v = 0;

	assert_true(verdict_of(prog_fd, frame, len, &v));
	return v;
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_BOOTTIME, &t);
	return (uint64_t)t.tv_sec * S + (uint64_t)t.tv_nsec;
}

static int load(const struct vmp_tcbpf_code *code, int map, int addrs)
{
	static char log[65536];
	int prog = vmp_tcbpf_prog_load(code, map, addrs, log, sizeof log);

	if (prog < 0)
		print_message("%s\n", log);
	assert_true(prog >= 0);
	return prog;
}

/* The word decides, whatever the frame: `frame` is one that the program is about. */
static void word_decides(int prog, int map, const uint8_t *frame, size_t len)
{
	uint64_t *word = vmp_tcbpf_map_mmap(map);

	assert_non_null(word);
	*word = 0;
	assert_int_equal(verdict(prog, frame, len), SHOT);
	*word = now_ns() - 1;
	assert_int_equal(verdict(prog, frame, len), SHOT);
	*word = now_ns() + 3600 * S;
	assert_int_equal(verdict(prog, frame, len), UNSPEC);
	*word = UINT64_MAX; /* unsigned: the far future, not -1 */
	assert_int_equal(verdict(prog, frame, len), UNSPEC);
	assert_int_equal(vmp_tcbpf_map_set(map, 1), 0);
	assert_int_equal(verdict(prog, frame, len), SHOT);
	*word = 0;
	assert_int_equal(verdict(prog, frame, len), SHOT);
	vmp_tcbpf_map_munmap(word);
}

static void port_behaves(const struct vmp_tcbpf_code *code)
{
	static const uint8_t frame[64];
	CLEANUP_CLOSE int map = vmp_tcbpf_map_new();
	CLEANUP_CLOSE int prog = -1;

	assert_true(map >= 0);
	prog = load(code, map, -1);
	word_decides(prog, map, frame, sizeof frame);
}

/* --- addresses of the host -------------------------------------------------------------------------------------------- */

#define A4 { 192, 0, 2, 10 }
#define B4 { 192, 0, 2, 11 }
#define N4 { 192, 0, 2, 99 } /* nobody's */
#define A6 { 0x20, 1, 0xd, 0xb8, [15] = 0x10 }
#define N6 { 0x20, 1, 0xd, 0xb8, [15] = 0x99 }
#define SN { 0xff, 2, [11] = 1, [12] = 0xff, [15] = 0x10 } /* solicited-node group of A6 */

static const uint8_t a4[16] = A4, b4[16] = B4, n4[16] = N4, a6[16] = A6, n6[16] = N6, sn[16] = SN, any[16];
/* 192.0.2.10 as the first and the last four bytes of an IPv6 address: no IPv4 address of anybody's */
static const uint8_t like4[16] = { 192, 0, 2, 10, [12] = 192, 0, 2, 10 };

enum what { IP4, IP6, ARP, NS, NA };

static const struct {
	const char *name;
	enum what what;
	const uint8_t *from, *to, *target; /* ARP: sender and target */
	bool in, out;			   /* shot while the gate is closed */
} cases[] = {
	{ "v4 to the address", IP4, n4, a4, NULL, true, false },
	{ "v4 from the address", IP4, a4, n4, NULL, false, true },
	{ "v4 between two of the pair", IP4, a4, b4, NULL, true, true },
	{ "v4 of others", IP4, n4, n4, NULL, false, false },
	{ "v6 to the address", IP6, n6, a6, NULL, true, false },
	{ "v6 from the address", IP6, a6, n6, NULL, false, true },
	{ "v6 of others", IP6, n6, n6, NULL, false, false },
	{ "v6 that looks like the v4 address", IP6, like4, like4, NULL, false, false },
	{ "who has the address", ARP, n4, a4, NULL, true, false },
	{ "the address tells where it is, or asks", ARP, a4, n4, NULL, false, true },
	{ "the address is announced", ARP, a4, a4, NULL, false, true },
	{ "ARP of others", ARP, n4, n4, NULL, false, false },
	{ "solicitation for the address", NS, n6, sn, a6, true, false },
	{ "solicitation, duplicate address detection", NS, any, sn, a6, true, false },
	{ "solicitation for another", NS, n6, sn, n6, false, false },
	{ "solicitation by the address", NS, a6, sn, n6, false, true },
	{ "advertisement of the address", NA, a6, n6, a6, false, true },
	{ "advertisement of the address, another source", NA, n6, n6, a6, false, true },
	{ "advertisement of another", NA, n6, n6, n6, false, false },
	{ "advertisement of another, to the address", NA, n6, a6, n6, true, false },
};

static size_t build(uint8_t f[128], unsigned int i, unsigned int tags)
{
	static const uint8_t type[][2] = { { 8, 0 }, { 0x86, 0xdd }, { 8, 6 }, { 0x86, 0xdd }, { 0x86, 0xdd } };
	uint8_t *p = f + 12;

	memset(f, 0, 128);
	for (unsigned int t = 0; t < tags; t++, p += 4) {
		memcpy(p, t || tags == 1 ? "\x81\x00" : "\x88\xa8", 2);
		p[3] = 7;
	}
	memcpy(p, type[cases[i].what], 2);
	p += 2;
	switch (cases[i].what) {
	case IP4:
		p[0] = 0x45;
		memcpy(p + 12, cases[i].from, 4);
		memcpy(p + 16, cases[i].to, 4);
		return (size_t)(p + 20 - f);
	case ARP:
		memcpy(p, "\0\1\x8\0\6\4\0\1", 8);
		memcpy(p + 14, cases[i].from, 4);
		memcpy(p + 24, cases[i].to, 4);
		return (size_t)(p + 28 - f);
	default:
		p[0] = 0x60;
		p[6] = cases[i].what == IP6 ? 6 : 58;
		memcpy(p + 8, cases[i].from, 16);
		memcpy(p + 24, cases[i].to, 16);
		p[40] = cases[i].what == NS ? 135 : 136;
		if (cases[i].target)
			memcpy(p + 48, cases[i].target, 16);
		return (size_t)(p + 64 - f);
	}
}

static void add4(int addrs, const uint8_t *a)
{
	uint8_t key[16] = { [10] = 0xff, 0xff };

	memcpy(key + 12, a, 4);
	assert_int_equal(vmp_tcbpf_addrs_set(addrs, key, 24), 0);
}

static void host_behaves(const struct vmp_tcbpf_code *code, bool egress)
{
	CLEANUP_CLOSE int map = vmp_tcbpf_map_new();
	CLEANUP_CLOSE int addrs = vmp_tcbpf_addrs_new();
	CLEANUP_CLOSE int prog = -1;
	uint8_t f[128];
	size_t len;

	assert_true(map >= 0 && addrs >= 0);
	prog = load(code, map, addrs);
	/* No address, nothing gated. */
	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(verdict(prog, f, build(f, i, 0)), UNSPEC);
	add4(addrs, a4);
	add4(addrs, b4);
	assert_int_equal(vmp_tcbpf_addrs_set(addrs, a6, 64), 0);
	for (unsigned int i = 0; i < ARRAY_SIZE(cases); i++) {
		for (unsigned int tags = 0; tags <= 2; tags++) {
			uint32_t want = (egress ? cases[i].out : cases[i].in) ? SHOT : UNSPEC, got;

			assert_int_equal(vmp_tcbpf_map_set(map, 0), 0);
			len = build(f, i, tags);
			got = verdict(prog, f, len);
			if (got != want)
				print_message("%s, %s, %u tags: %d\n", cases[i].name, egress ? "out" : "in", tags, (int)got);
			assert_int_equal(got, want);
			if (want == SHOT)
				word_decides(prog, map, f, len);
			assert_int_equal(vmp_tcbpf_map_set(map, now_ns() + 3600 * S), 0);
			assert_int_equal(verdict(prog, f, len), UNSPEC);
			/* Cut short anywhere it is judged by what is there, or no such packet at all. */
			assert_int_equal(vmp_tcbpf_map_set(map, 0), 0);
			for (size_t l = 14; l < len; l++)
				if (verdict_of(prog, f, l, &got) && got == SHOT)
					assert_int_equal(want, SHOT);
		}
	}
	/* Other protocols, and ARP that is not about IPv4 over Ethernet. */
	len = build(f, 8, 0);
	f[18] = 8;
	assert_int_equal(verdict(prog, f, len), UNSPEC);
	memset(f, 0, sizeof f);
	memcpy(f + 12, "\x88\xb5", 2);
	for (unsigned int i = 14; i + 4 <= sizeof f; i += 4)
		memcpy(f + i, a4, 4);
	assert_int_equal(verdict(prog, f, sizeof f), UNSPEC);
	/* An address that is the pair's no longer. */
	assert_int_equal(vmp_tcbpf_addrs_del(addrs, a6), 0);
	assert_int_equal(verdict(prog, f, build(f, egress ? 5 : 4, 0)), UNSPEC);
}

static void addresses_map(void **state)
{
	CLEANUP_CLOSE int addrs = vmp_tcbpf_addrs_new();
	CLEANUP_CLOSE int word = vmp_tcbpf_map_new();
	uint8_t key[16];
	uint32_t value;
	unsigned int n = 0, sum = 0;

	(void)state;
	if (addrs < 0)
		skip();
	assert_true(vmp_tcbpf_addrs_fits(addrs));
	assert_false(vmp_tcbpf_addrs_fits(word));
	assert_false(vmp_tcbpf_map_fits(addrs));
	assert_int_equal(vmp_tcbpf_addrs_next(addrs, NULL, key, &value), -ENOENT);
	for (uint8_t i = 1; i <= VMP_TCBPF_ADDRS; i++)
		assert_int_equal(vmp_tcbpf_addrs_set(addrs, (const uint8_t[16]){ i }, i), 0);
	assert_int_equal(vmp_tcbpf_addrs_set(addrs, a6, 1), -E2BIG);
	for (int r = vmp_tcbpf_addrs_next(addrs, NULL, key, &value); !r; r = vmp_tcbpf_addrs_next(addrs, key, key, &value)) {
		assert_int_equal(key[0], value);
		n++;
		sum += value;
	}
	assert_int_equal(n, VMP_TCBPF_ADDRS);
	assert_int_equal(sum, VMP_TCBPF_ADDRS * (VMP_TCBPF_ADDRS + 1) / 2);
	assert_int_equal(vmp_tcbpf_addrs_del(addrs, a6), 0);
}

/* ----------------------------------------------------------------------------------------------------------------------- */

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
	port_behaves(&vmp_tcbpf_port);
	host_behaves(&vmp_tcbpf_host[0], false);
	host_behaves(&vmp_tcbpf_host[1], true);
}

/* As it is shipped; else at least such a program. */
static bool same(const struct vmp_tcbpf_code *code, const char *source, const char *option, struct vmp_tcbpf_code *ret)
{
	static struct bpf_insn insns[MAX_INSNS];
	unsigned int n = compiled(source, option, insns);

	if (!n)
		skip();
	if (n == code->n && !memcmp(insns, code->insns, n * sizeof *insns))
		return true;
	print_message("# this clang makes %u other instructions of %s %s\n", n, source, option);
	*ret = *code;
	ret->insns = insns;
	ret->n = n;
	if (!can_load())
		skip();
	return false;
}

static void as_compiled(void **state)
{
	struct vmp_tcbpf_code code;

	(void)state;
	if (!same(&vmp_tcbpf_port, GATE_BPF_SOURCE, "", &code))
		port_behaves(&code);
	if (!same(&vmp_tcbpf_host[0], HOST_BPF_SOURCE, "", &code))
		host_behaves(&code, false);
	if (!same(&vmp_tcbpf_host[1], HOST_BPF_SOURCE, "-DEGRESS", &code))
		host_behaves(&code, true);
}

static void print(const char *option)
{
	struct bpf_insn insns[MAX_INSNS];
	unsigned int n = compiled(HOST_BPF_SOURCE, option, insns), width = 113;

	for (unsigned int i = 0; i < n; i++) {
		char text[64], src[8];
		bool map = insns[i].code == (BPF_LD | BPF_IMM | BPF_DW) && insns[i].src_reg;
		unsigned int len;

		snprintf(src, sizeof src, "%u", insns[i].src_reg);
		len = (unsigned int)snprintf(text, sizeof text, "{ 0x%02x, %u, %s, %d, %d },", insns[i].code, insns[i].dst_reg,
					     !map ? src : insns[i].src_reg == BPF_PSEUDO_MAP_VALUE ? "VALUE" : "ADDRS",
					     insns[i].off, insns[i].imm);
		if (width + len > 112) {
			printf("%s\t", i ? "\n" : "");
			width = 1;
		} else {
			printf(" ");
			width++;
		}
		printf("%s", text);
		width += len;
	}
	printf("\n");
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(shipped),
		cmocka_unit_test(addresses_map),
		cmocka_unit_test(as_compiled),
	};

	if (argc > 1 && !strcmp(argv[1], "--print")) {
		print("");
		print("-DEGRESS");
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
