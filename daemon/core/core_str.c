/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Texts of the core: names of everything, and one stable line per step for logs, golden traces and replay.
 * It formats by itself: the core calls nothing of the C library that allocates, reads a locale or does I/O. */
#include <string.h>

#include "daemon/core/core.h"

#define NAME_FN(fn, list, count) \
	const char *fn(unsigned int i) \
	{ \
		static const char *const name[] = { list(VMP_T) }; \
		return i < count ? name[i] : "?"; \
	}
#define VMP_T(name, text) text,
NAME_FN(vmp_role_name, VMP_ROLES, VMP_ROLE_COUNT)
NAME_FN(vmp_mode_name, VMP_MODES, VMP_MODE_COUNT)
NAME_FN(vmp_cause_name, VMP_CAUSES, VMP_CAUSE_COUNT)
NAME_FN(vmp_reason_name, VMP_REASONS, VMP_REASON_COUNT)
NAME_FN(vmp_note_name, VMP_NOTES, VMP_NOTE_COUNT)
NAME_FN(vmp_event_name, VMP_EVENTS, VMP_EV_COUNT)
NAME_FN(vmp_action_name, VMP_ACTIONS, VMP_ACT_COUNT)

const char *vmp_msg_name(unsigned int type)
{
	static const char *const name[] = { "?", VMP_MSG_TYPES(VMP_T) };

	return type < VMP_MSG_COUNT ? name[type] : "?";
}

const char *vmp_reason_text(unsigned int reason)
{
	switch ((enum vmp_reason)reason) {
	case VMP_REASON_NONE: return "done";
	case VMP_REASON_ABSTAINING: return "a voter lost its memory and has not read it back yet";
	case VMP_REASON_CONFIG_VERSION: return "the voters do not agree on the voter set yet";
	case VMP_REASON_EPOCH_LOW: return "a newer claim is known";
	case VMP_REASON_GUARD: return "the present primary's lease is still protected";
	case VMP_REASON_NOT_ELIGIBLE: return "this member is not the recorded in-sync one";
	case VMP_REASON_RELEASED: return "the epoch was released";
	case VMP_REASON_LEARNED: return "the vote is known only from another voter";
	case VMP_REASON_STATE_LOW: return "a newer state is known";
	case VMP_REASON_NO_PAIR: return "this node does not know the pair";
	case VMP_REASON_NO_MEMBER: return "no ready member on this node";
	case VMP_REASON_NO_STANDBY: return "there is no in-sync standby";
	case VMP_REASON_FROZEN: return "frozen by maintenance mode, or not managed";
	case VMP_REASON_NOT_HOLDER: return "this node is not the primary of the pair";
	case VMP_REASON_BUSY: return "another operation on this pair is running";
	case VMP_REASON_MEMBER_ALIVE: return "a recorded member may still be alive; starting without it could lose requests";
	case VMP_REASON_NO_MAJORITY: return "a majority of the voters cannot be reached";
	case VMP_REASON_TIMEOUT: return "the time limit passed";
	case VMP_REASON_SUPERSEDED: return "another operation took its place";
	case VMP_REASON_TABLE_FULL: return "too many pairs";
	case VMP_REASON_NO_QUORUM_CONFIG: return "there is no voter configuration yet, or this node is not in it";
	case VMP_REASON_PERSIST: return "the state file cannot be written";
	case VMP_REASON_HELD_ELSEWHERE: return "another node became primary";
	case VMP_REASON_LEASE: return "there is no lease";
	case VMP_REASON_VOTERS: return "the voter set changes by one voter at a time, with all voters up";
	case VMP_REASON_COUNT: break;
	}
	return "?";
}
