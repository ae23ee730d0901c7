/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "config.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "daemon/tcbpf.h"
#include "internal/cleanup.h"

/* Newer than the headers of the oldest system we build on. */
#define ATTACH_TCX_INGRESS 46U
#define ATTACH_TCX_EGRESS 47U
#define FLAG_BEFORE (1U << 3) /* with no relative program: before all */
#define MAX_INSNS 256
#define WORD_SIZE 4096	      /* an mmapable array takes whole pages; one page is mapped on every architecture's size */

/* daemon/bpf/gate.bpf.c as clang makes it. The kernel fills in the address of the map's value. */
static const struct bpf_insn port_insns[] = {
	{ .code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_ktime_get_boot_ns },
	{ .code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = BPF_REG_1, .src_reg = BPF_REG_0 },
	{ .code = BPF_LD | BPF_IMM | BPF_DW, .dst_reg = BPF_REG_2, .src_reg = BPF_PSEUDO_MAP_VALUE },
	{ .code = 0 },
	{ .code = BPF_LDX | BPF_MEM | BPF_DW, .dst_reg = BPF_REG_2, .src_reg = BPF_REG_2 },
	{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = -1 },
	{ .code = BPF_JMP | BPF_JGT | BPF_X, .dst_reg = BPF_REG_2, .src_reg = BPF_REG_1, .off = 1 },
	{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 2 },
	{ .code = BPF_JMP | BPF_EXIT },
};
const struct vmp_tcbpf_code vmp_tcbpf_port = { port_insns, ARRAY_SIZE(port_insns), "vmpair_gate", false };

static int sys_bpf(int cmd, union bpf_attr *attr)
{
	long r;

	do
		r = syscall(SYS_bpf, cmd, attr, sizeof *attr);
	while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : (int)r;
}

static uint64_t ptr(const void *p)
{
	return (uint64_t)(uintptr_t)p;
}

int vmp_tcbpf_map_new(void)
{
	union bpf_attr a;

	memset(&a, 0, sizeof a);
	a.map_type = BPF_MAP_TYPE_ARRAY;
	a.key_size = sizeof(uint32_t);
	a.value_size = sizeof(uint64_t);
	a.max_entries = 1;
	a.map_flags = BPF_F_MMAPABLE;
	memcpy(a.map_name, "vmpair_expiry", sizeof "vmpair_expiry");
	return sys_bpf(BPF_MAP_CREATE, &a);
}

int vmp_tcbpf_map_get(int map_fd, uint64_t *ret)
{
	uint32_t key = 0;
	uint64_t value = 0;
	union bpf_attr a;
	int r;

	memset(&a, 0, sizeof a);
	a.map_fd = (uint32_t)map_fd;
	a.key = ptr(&key);
	a.value = ptr(&value);
	r = sys_bpf(BPF_MAP_LOOKUP_ELEM, &a);
	if (r < 0)
		return r;
	*ret = value;
	return 0;
}

int vmp_tcbpf_map_set(int map_fd, uint64_t value)
{
	uint32_t key = 0;
	union bpf_attr a;

	memset(&a, 0, sizeof a);
	a.map_fd = (uint32_t)map_fd;
	a.key = ptr(&key);
	a.value = ptr(&value);
	a.flags = BPF_ANY;
	return sys_bpf(BPF_MAP_UPDATE_ELEM, &a);
}

uint64_t *vmp_tcbpf_map_mmap(int map_fd)
{
	void *p = mmap(NULL, WORD_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

void vmp_tcbpf_map_munmap(uint64_t *word)
{
	if (word)
		munmap(word, WORD_SIZE);
}

static int object_info(int fd, void *info, uint32_t len)
{
	union bpf_attr a;

	memset(&a, 0, sizeof a);
	a.info.bpf_fd = (uint32_t)fd;
	a.info.info_len = len;
	a.info.info = ptr(info);
	return sys_bpf(BPF_OBJ_GET_INFO_BY_FD, &a);
}

int vmp_tcbpf_map_id(int map_fd, uint32_t *ret)
{
	struct bpf_map_info mi;
	int r;

	memset(&mi, 0, sizeof mi);
	r = object_info(map_fd, &mi, sizeof mi);
	if (r < 0)
		return r;
	*ret = mi.id;
	return 0;
}

bool vmp_tcbpf_map_fits(int map_fd)
{
	struct bpf_map_info mi;

	memset(&mi, 0, sizeof mi);
	return !object_info(map_fd, &mi, sizeof mi) && mi.type == BPF_MAP_TYPE_ARRAY &&
	       mi.key_size == sizeof(uint32_t) && mi.value_size == sizeof(uint64_t) && mi.max_entries == 1 &&
	       (mi.map_flags & BPF_F_MMAPABLE);
}

int vmp_tcbpf_addrs_new(void)
{
	union bpf_attr a;

	memset(&a, 0, sizeof a);
	a.map_type = BPF_MAP_TYPE_HASH;
	a.key_size = 16;
	a.value_size = sizeof(uint32_t);
	a.max_entries = VMP_TCBPF_ADDRS;
	memcpy(a.map_name, "vmpair_addrs", sizeof "vmpair_addrs");
	return sys_bpf(BPF_MAP_CREATE, &a);
}

int vmp_tcbpf_addrs_set(int addrs_fd, const uint8_t addr[16], uint32_t value)
{
	union bpf_attr a;

	memset(&a, 0, sizeof a);
	a.map_fd = (uint32_t)addrs_fd;
	a.key = ptr(addr);
	a.value = ptr(&value);
	a.flags = BPF_ANY;
	return sys_bpf(BPF_MAP_UPDATE_ELEM, &a);
}

int vmp_tcbpf_addrs_del(int addrs_fd, const uint8_t addr[16])
{
	union bpf_attr a;
	int r;

	memset(&a, 0, sizeof a);
	a.map_fd = (uint32_t)addrs_fd;
	a.key = ptr(addr);
	r = sys_bpf(BPF_MAP_DELETE_ELEM, &a);
	return r == -ENOENT ? 0 : r;
}

int vmp_tcbpf_addrs_next(int addrs_fd, const uint8_t prev[16], uint8_t ret_addr[16], uint32_t *ret_value)
{
	uint8_t next[16] = { 0 };
	uint32_t value = 0;
	union bpf_attr a;
	int r;

	memset(&a, 0, sizeof a);
	a.map_fd = (uint32_t)addrs_fd;
	a.key = ptr(prev);
	a.next_key = ptr(next);
	r = sys_bpf(BPF_MAP_GET_NEXT_KEY, &a);
	if (r < 0)
		return r;
	memset(&a, 0, sizeof a);
	a.map_fd = (uint32_t)addrs_fd;
	a.key = ptr(next);
	a.value = ptr(&value);
	r = sys_bpf(BPF_MAP_LOOKUP_ELEM, &a);
	if (r < 0)
		return r;
	memcpy(ret_addr, next, sizeof next);
	*ret_value = value;
	return 0;
}

bool vmp_tcbpf_addrs_fits(int addrs_fd)
{
	struct bpf_map_info mi;

	memset(&mi, 0, sizeof mi);
	return !object_info(addrs_fd, &mi, sizeof mi) && mi.type == BPF_MAP_TYPE_HASH && mi.key_size == 16 &&
	       mi.value_size == sizeof(uint32_t) && mi.max_entries == VMP_TCBPF_ADDRS;
}

int vmp_tcbpf_prog_load(const struct vmp_tcbpf_code *code, int map_fd, int addrs_fd, char *log, size_t log_len)
{
	struct bpf_insn prog[MAX_INSNS];
	union bpf_attr a;
	int r;

	if (code->n > ARRAY_SIZE(prog))
		return -E2BIG;
	/* What is compared with the bytes of a frame stands in the code in the order of a little-endian machine. */
	if (code->addrs && (addrs_fd < 0 || htons(1) == 1))
		return addrs_fd < 0 ? -EINVAL : -EOPNOTSUPP;
	memcpy(prog, code->insns, code->n * sizeof *prog);
	for (unsigned int i = 0; i < code->n; i++)
		if (prog[i].code == (BPF_LD | BPF_IMM | BPF_DW) && prog[i].src_reg == BPF_PSEUDO_MAP_VALUE)
			prog[i].imm = map_fd;
		else if (prog[i].code == (BPF_LD | BPF_IMM | BPF_DW) && prog[i].src_reg == BPF_PSEUDO_MAP_FD)
			prog[i].imm = addrs_fd;
	memset(&a, 0, sizeof a);
	a.prog_type = BPF_PROG_TYPE_SCHED_CLS;
	a.insns = ptr(prog);
	a.insn_cnt = code->n;
	a.license = ptr("GPL");
	memcpy(a.prog_name, code->name, strnlen(code->name, sizeof a.prog_name - 1));
	r = sys_bpf(BPF_PROG_LOAD, &a);
	if (r >= 0 || !log || !log_len)
		return r;
	/* Once more for the words; the log is cut if it does not fit. */
	memset(log, 0, log_len);
	a.log_level = 1;
	a.log_buf = ptr(log);
	a.log_size = (uint32_t)(log_len - 1);
	return sys_bpf(BPF_PROG_LOAD, &a);
}

int vmp_tcbpf_prog_info(int prog_fd, struct vmp_tcbpf_info *ret)
{
	struct bpf_prog_info pi;
	uint32_t maps[3] = { 0 };
	int r;

	memset(&pi, 0, sizeof pi);
	pi.nr_map_ids = ARRAY_SIZE(maps);
	pi.map_ids = ptr(maps);
	r = object_info(prog_fd, &pi, sizeof pi);
	if (r < 0)
		return r;
	memset(ret, 0, sizeof *ret);
	ret->id = ret->prog_id = pi.id;
	if (pi.nr_map_ids < ARRAY_SIZE(maps))
		memcpy(ret->map_id, maps, sizeof ret->map_id);
	if (pi.type == BPF_PROG_TYPE_SCHED_CLS)
		memcpy(ret->tag, pi.tag, VMP_TCBPF_TAG);
	return 0;
}

int vmp_tcbpf_link_new(int prog_fd, int ifindex, bool egress)
{
	union bpf_attr a;

	memset(&a, 0, sizeof a);
	a.link_create.prog_fd = (uint32_t)prog_fd;
	a.link_create.target_ifindex = (uint32_t)ifindex;
	a.link_create.attach_type = egress ? ATTACH_TCX_EGRESS : ATTACH_TCX_INGRESS;
	a.link_create.flags = FLAG_BEFORE;
	return sys_bpf(BPF_LINK_CREATE, &a);
}

bool vmp_tcbpf_has_tcx(int prog_fd)
{
	/* There is no such interface: a kernel that knows the hook says so, an older one calls the request invalid. */
	int r = vmp_tcbpf_link_new(prog_fd, INT_MAX, false);

	if (r >= 0)
		close(r);
	return r == -ENODEV;
}

int vmp_tcbpf_link_info(int link_fd, struct vmp_tcbpf_info *ret)
{
	/* struct bpf_link_info with the part for TCX (interface, hook), which older headers lack. */
	struct {
		uint32_t type, id, prog_id, pad;
		uint32_t ifindex, attach_type;
		uint8_t rest[64];
	} li;
	int r;

	memset(&li, 0, sizeof li);
	r = object_info(link_fd, &li,
			sizeof(struct bpf_link_info) < sizeof li ? sizeof(struct bpf_link_info) : sizeof li);
	if (r < 0)
		return r;
	memset(ret, 0, sizeof *ret);
	ret->id = li.id;
	ret->prog_id = li.prog_id;
	ret->ifindex = li.ifindex;
	return 0;
}

int vmp_tcbpf_link_detach(int link_fd)
{
	union bpf_attr a;

	memset(&a, 0, sizeof a);
	a.link_detach.link_fd = (uint32_t)link_fd;
	return sys_bpf(BPF_LINK_DETACH, &a);
}

int vmp_tcbpf_tcx_list(int ifindex, bool egress, uint32_t *ret_ids, unsigned int max)
{
	uint32_t ids[64] = { 0 }; /* the most a hook holds */
	union bpf_attr a;
	unsigned int n;
	int r;

	memset(&a, 0, sizeof a);
	a.query.target_fd = (uint32_t)ifindex;
	a.query.attach_type = egress ? ATTACH_TCX_EGRESS : ATTACH_TCX_INGRESS;
	a.query.prog_ids = ptr(ids);
	a.query.prog_cnt = ARRAY_SIZE(ids);
	r = sys_bpf(BPF_PROG_QUERY, &a);
	if (r == -ENOENT)
		return 0;
	if (r < 0 && r != -ENOSPC)
		return r;
	n = a.query.prog_cnt < max ? a.query.prog_cnt : max;
	n = n < ARRAY_SIZE(ids) ? n : ARRAY_SIZE(ids);
	memcpy(ret_ids, ids, n * sizeof *ids);
	return (int)n;
}

int vmp_tcbpf_pin(int fd, const char *path)
{
	union bpf_attr a;

	memset(&a, 0, sizeof a);
	a.pathname = ptr(path);
	a.bpf_fd = (uint32_t)fd;
	return sys_bpf(BPF_OBJ_PIN, &a);
}

int vmp_tcbpf_get(const char *path)
{
	union bpf_attr a;

	memset(&a, 0, sizeof a);
	a.pathname = ptr(path);
	return sys_bpf(BPF_OBJ_GET, &a);
}
