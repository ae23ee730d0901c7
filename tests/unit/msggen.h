/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Valid messages and records of every kind with random content; `full`: every list at its limit. */
#ifndef VMP_MSGGEN_H
#define VMP_MSGGEN_H

#include <string.h>

#include "daemon/core/core.h"

static uint64_t gen_state = 1;

static inline uint64_t gen(void)
{
	gen_state ^= gen_state << 13;
	gen_state ^= gen_state >> 7;
	gen_state ^= gen_state << 17;
	return gen_state;
}

static inline uint8_t gen_max(unsigned int max, bool full)
{
	return full ? (uint8_t)max : (uint8_t)(gen() % (max + 1));
}

static inline void gen_promised(struct vmp_promised *v)
{
	v->epoch = gen();
	v->boot = gen();
	v->node = (uint8_t)gen();
	v->released = gen() & 1;
	v->own = gen() & 1;
}

static inline void gen_reg_state(struct vmp_state *v)
{
	v->epoch = gen();
	v->seq = gen();
	v->holder_member = gen();
	v->sync_member = gen();
	v->holder = (uint8_t)gen();
	v->sync_node = (uint8_t)gen();
	v->cold = gen() & 1;
}

static inline void gen_reg(struct vmp_reg *v)
{
	v->pair = gen();
	gen_promised(&v->promised);
	gen_reg_state(&v->state);
}

static inline void gen_config(struct vmp_config *v, bool full)
{
	v->version = gen();
	v->n = gen_max(VMP_MAX_VOTERS, full);
	for (unsigned int i = 0; i < v->n; i++) {
		v->voter[i].id = gen();
		v->voter[i].node = (uint8_t)gen();
	}
}

static inline void gen_held(struct vmp_held *v, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++) {
		v[i].pair = gen();
		v[i].epoch = gen();
	}
}

static inline void gen_msg(struct vmp_msg *m, unsigned int type, bool full)
{
	memset(m, 0, sizeof(*m));
	m->type = (uint8_t)type;
	m->version = gen();
	m->voter = gen();
	switch ((enum vmp_msg_type)type) {
	case VMP_MSG_HEARTBEAT: {
		struct vmp_msg_heartbeat *v = &m->u.heartbeat;

		v->inc = gen();
		v->seq = gen();
		v->boot = gen();
		v->abstaining = gen() & 1;
		v->n_held = gen_max(VMP_MAX_PAIRS, full);
		v->n_states = gen_max(sizeof(v->state) / sizeof(v->state[0]), full);
		gen_held(v->held, v->n_held);
		for (unsigned int i = 0; i < v->n_states; i++) {
			v->state[i].pair = gen();
			gen_reg_state(&v->state[i].state);
		}
		break;
	}
	case VMP_MSG_ACK: {
		struct vmp_msg_ack *v = &m->u.ack;

		v->inc = gen();
		v->seq = gen();
		v->n_supported = gen_max(VMP_MAX_PAIRS, full);
		v->n_regs = gen_max(sizeof(v->reg) / sizeof(v->reg[0]), false);
		/* The limit the core keeps to. */
		while (v->n_supported * 16 + v->n_regs * 96 > 1152)
			v->n_regs--;
		gen_held(v->supported, v->n_supported);
		for (unsigned int i = 0; i < v->n_regs; i++)
			gen_reg(&v->reg[i]);
		break;
	}
	case VMP_MSG_CLAIM:
	case VMP_MSG_PROBE: {
		struct vmp_msg_claim *v = &m->u.claim;

		v->pair = gen();
		v->epoch = gen();
		v->nonce = gen();
		v->member = gen();
		v->boot = gen();
		v->release_of = gen();
		v->fenced_boot = gen();
		v->fenced_node = (uint8_t)gen();
		v->force = gen() & 1;
		break;
	}
	case VMP_MSG_GRANT:
	case VMP_MSG_PROBE_OK:
		m->u.grant = (struct vmp_msg_grant){ gen(), gen(), gen(), 0 };
		if (gen() & 1) {	/* a field more for bars */
			m->u.grant.pair = VMP_PAIR_BAR(7);
			m->u.grant.bar = gen();
		}
		break;
	case VMP_MSG_REFUSE: {
		struct vmp_msg_refuse *v = &m->u.refuse;

		v->pair = gen();
		v->epoch = gen();
		v->nonce = gen();
		v->remain_ns = gen();
		gen_promised(&v->promised);
		gen_reg_state(&v->state);
		v->reason = gen_max(VMP_REASON_COUNT - 1, full);
		v->probe = gen() & 1;
		break;
	}
	case VMP_MSG_PUT:
		m->u.put.pair = gen();
		m->u.put.boot = gen();
		gen_reg_state(&m->u.put.state);
		break;
	case VMP_MSG_PUT_OK:
		m->u.put_ok = (struct vmp_msg_put_ok){ gen(), gen(), gen(), 0 };
		if (gen() & 1) {
			m->u.put_ok.pair = VMP_PAIR_BAR(7);
			m->u.put_ok.remain_ns = gen();
		}
		break;
	case VMP_MSG_HOLD:
	case VMP_MSG_HOLD_OK:
	case VMP_MSG_UNHOLD:
		m->u.hold.pair = gen();
		m->u.hold.epoch = gen();
		m->u.hold.nonce = gen();
		m->u.hold.ms = (uint32_t)gen();
		break;
	case VMP_MSG_RELEASE:
		m->u.release = (struct vmp_msg_release){ gen(), gen(), gen() };
		break;
	case VMP_MSG_TAKEOVER:
		m->u.takeover.pair = gen();
		m->u.takeover.epoch = gen();
		m->u.takeover.cause = gen_max(VMP_CAUSE_COUNT - 1, full);
		gen_reg_state(&m->u.takeover.state);
		break;
	case VMP_MSG_READ:
		m->u.read.boot = gen();
		m->u.read.nonce = gen();
		break;
	case VMP_MSG_TABLE:
	case VMP_MSG_COLD:
	case VMP_MSG_CONFIG_OK:
	case VMP_MSG_STATES:
	case VMP_MSG_STATES_OK: {
		struct vmp_msg_table *v = &m->u.table;

		v->nonce = gen();
		v->parts = (uint8_t)(1 + gen() % 4);
		v->part = (uint8_t)(gen() % v->parts);
		v->waited = gen() & 1;
		gen_config(&v->config, full);
		v->n_regs = gen_max(sizeof(v->reg) / sizeof(v->reg[0]), full);
		for (unsigned int i = 0; i < v->n_regs; i++)
			gen_reg(&v->reg[i]);
		break;
	}
	case VMP_MSG_CONFIG:
		gen_config(&m->u.config.config, full);
		gen_config(&m->u.config.previous, full);
		m->u.config.epoch = gen();
		break;
	case VMP_MSG_MEMBERS:
		m->u.members.n = gen_max(VMP_MAX_PAIRS, full);
		for (unsigned int i = 0; i < m->u.members.n; i++) {
			m->u.members.member[i].pair = gen();
			m->u.members.member[i].member = gen();
			m->u.members.member[i].flags = gen() & (VMP_MEMBER_RUNNING | VMP_MEMBER_READY);
		}
		break;
	case VMP_MSG_NONE_:
	case VMP_MSG_COUNT:
		break;
	}
}

static inline void gen_record(struct vmp_record *v)
{
	memset(v, 0, sizeof(*v));
	do {
		v->pair = gen();
	} while (!v->pair);
	gen_promised(&v->promised);
	gen_reg_state(&v->state);
	gen_reg_state(&v->own);
	v->own_epoch = gen();
	v->own_member = gen();
	v->released = gen();
	v->epoch_seen = gen();
	v->held_until_ns = gen();
	v->role = gen_max(VMP_ROLE_COUNT - 1, false);
}

#endif
