/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What may happen to three voters with one pair, exhaustively within bounds: STEPS heartbeat intervals, FAULTS faults, KEPT deliveries of
 * kept messages. The nodes are the shipped core (harness.c); this is their world:
 *   network   each direction of each link is fast, cut, or keeps messages; kept ones arrive later, in any order, once or twice, or never
 *   clocks    each node's runs at 1 - rho or 1 + rho of real time; a transition `advance` is one heartbeat interval of real time
 *   hosts     daemon killed and started again, host crashed (/run and clock lost, disk copy old) and booted, daemon stopped and going on,
 *             VM exits, host fenced; an operator asks for a switchover
 * Checked after every step of every core: never two valid primaries, alone only after a majority recorded it, every acknowledged write is in
 * the member that opens, registers never fall, local invariants. At the end of every path: whoever can take over does within 10 L (bounded
 * response in place of fairness), and after everything is repaired an entry opens.
 *
 * The cores' memory is saved and restored with the search stack; states are compared by 128 bits of hash over all of it.
 */
#ifndef STEPS
#define STEPS 7
#endif
#ifndef FAULTS
#define FAULTS 2
#endif
#ifndef KEPT
#define KEPT 1
#endif

c_decl {
\#include "tests/spin/harness.h"
}
c_track "&W" "sizeof(struct spin_world)" "UnMatched"
c_state "unsigned long hash0" "Global"
c_state "unsigned long hash1" "Global"

byte steps = STEPS, faults = FAULTS, kept = KEPT;
byte who, other;
bool good = true;

#define DID c_code { uint64_t h[2]; spin_hash(h); now.hash0 = h[0]; now.hash1 = h[1]; now.good = spin_ok(); }; assert(good)

inline pick()
{
	if
	:: who = 0
	:: who = 1
	:: who = 2
	fi
}

inline pick_other()
{
	if
	:: who != 0 -> other = 0
	:: who != 1 -> other = 1
	:: who != 2 -> other = 2
	fi
}

init {
	byte rates;

	/* slow and fast clocks: of the primary, the standby, the witness */
	if
	:: rates = 0 + 2 * 4 + 2 * 16		/* a slow primary believes in its lease for long */
#ifdef ALL_CLOCKS
	:: rates = 2 + 0 * 4 + 0 * 16
	:: rates = 0 + 2 * 4 + 0 * 16
	:: rates = 2 + 0 * 4 + 2 * 16
#endif
	fi;
	d_step { c_code { spin_start(Pinit->rates); }; DID };
	do
	:: steps > 0 -> steps--; d_step { c_code { spin_advance(); }; DID }
	:: kept > 0 && c_expr { W.n_held > 0 } -> kept--;
		if
		:: d_step { c_code { spin_deliver(0, false); }; DID }
		:: d_step { c_code { spin_deliver(0, true); }; DID }
		:: c_expr { W.n_held > 1 } -> d_step { c_code { spin_deliver(1, false); }; DID }
		:: c_expr { W.n_held > 2 } -> d_step { c_code { spin_deliver(2, false); }; DID }
		fi
	:: steps > 0 && faults > 0 -> faults--; pick();
		if
		/* network */
		:: pick_other(); d_step { c_code { spin_link(now.who, now.other, SPIN_CUT); }; DID }
		:: pick_other(); d_step { c_code { spin_link(now.who, now.other, SPIN_KEEP); }; DID }
		:: d_step { c_code { int k; for (k = 0; k < SPIN_N; k++) { spin_link(now.who, k, SPIN_CUT); spin_link(k, now.who, SPIN_CUT); } }; DID }
		:: d_step { c_code { int j, k; for (j = 0; j < SPIN_N; j++) for (k = 0; k < SPIN_N; k++) spin_link(j, k, SPIN_FAST); }; DID }
		/* hosts */
		:: c_expr { W.node[now.who].daemon } -> d_step { c_code { spin_kill(now.who); }; DID }
		:: c_expr { W.node[now.who].up && !W.node[now.who].daemon } -> d_step { c_code { spin_restart(now.who); }; DID }
		:: c_expr { W.node[now.who].daemon } -> d_step { c_code { spin_kill(now.who); spin_restart(now.who); }; DID }
		:: c_expr { W.node[now.who].up } -> d_step { c_code { spin_crash(now.who); }; DID }
		:: c_expr { !W.node[now.who].up } -> d_step { c_code { spin_boot(now.who); }; DID }
		:: c_expr { W.node[now.who].up } -> d_step { c_code { spin_crash(now.who); spin_boot(now.who); }; DID }
		:: c_expr { W.node[now.who].daemon && !W.node[now.who].stopped } -> d_step { c_code { spin_stop(now.who, true); }; DID }
		:: c_expr { W.node[now.who].stopped } -> d_step { c_code { spin_stop(now.who, false); }; DID }
		:: who < 2 && c_expr { W.node[now.who].daemon && !W.node[now.who].stopped && W.node[now.who].member } ->
			d_step { c_code { spin_vm_exit(now.who); }; DID }
		:: c_expr { W.node[now.who].up } -> d_step { c_code { spin_fenced(now.who); }; DID }
		:: who == 0 -> d_step { c_code { spin_switchover(); }; DID }
		fi;
		who = 0; other = 0
	:: steps == 0 -> break
	od;
	c_code { now.good = spin_takes_over() && spin_heals(); };
	assert(good)
}
