/* C2. How often a suspect with cascading parents is looked at (protocol.md 14; compare_chunk.cpp: settle).
 *
 * A chain of tables, level 0 the root, DEPTH the table that is compared, one row each. The old side deletes the root, and with it all rows below,
 * silently: only the root has an event. What was taken away below is found step by step: when a level is applied, the row below it is asked for
 * (rq, in the apply transaction); the worker puts the request into that level's outbox (ob) and only then finishes it; the pump applies it; and so on.
 * Beside it one comparison of the row at DEPTH, LOOKS looks at most, each with its snapshots P, S (row, outboxes) and T (journal after P, requests):
 * seen in none of them, the row may have moved from a request to its outbox between S and T. It is then looked at again.
 * Property: capture is correct, so no divergence is ever confirmed. Holds with LOOKS = DEPTH + 1: each look that sees nothing uses up one move.
 * mutants: LOOKS = DEPTH (one look too few); M_NOANC: removing events of the levels above do not count.
 * FOREIGN: no trigger tells of the root's change. It was queued for the old side (wq), is written there, and then asked for as the queue lets it go
 * (protocol.md 19); a request has one move more to its outbox. Mutant M_NOQUEUE: what is queued does not count.
 */
#ifndef DEPTH
#define DEPTH 2
#endif
#ifndef LOOKS
#ifdef FOREIGN
#define LOOKS (DEPTH + 2)
#else
#define LOOKS (DEPTH + 1)
#endif
#endif
bool my = true;                                     /* the row at DEPTH on the old side; all levels go at once */
bool pg[DEPTH + 1] = true, ob[DEPTH + 1], rq[DEPTH + 1], ap[DEPTH + 1], mv[DEPTH + 1];
bool J, wq;

#ifdef FOREIGN
active proctype Writer() { wq = true; my = false; atomic { wq = false; rq[0] = true } }
#else
active proctype Writer() { atomic { my = false; ob[0] = true } }
#endif

proctype Level(byte n) {                            /* apply_batch, delete_exact and move_requests of one level */
  do
  :: atomic { ob[n] && !ap[n] -> pg[n] = false; ap[n] = true;
       if :: n < DEPTH && pg[n + 1] -> rq[n + 1] = true :: else fi;
       if :: n == DEPTH -> J = true :: else fi }
  :: atomic { ap[n] -> ob[n] = false; ap[n] = false }
  :: atomic { rq[n] && !mv[n] -> ob[n] = true; mv[n] = true }        /* committed on the old side ... */
  :: atomic { mv[n] -> rq[n] = false; mv[n] = false }                /* ... then finished on the new one */
  od
}

active proctype Compare() {
  byte look, n; bool p, s, q, above, w;
  do
  :: look < LOOKS ->
     look++;
     atomic { p = pg[DEPTH]; J = false };                                                        /* P */
     atomic { s = my; q = ob[DEPTH]; above = false; n = 0;                                       /* S */
       do :: n < DEPTH -> above = above || ob[n]; n++ :: else -> break od; n = 0 };
     atomic { w = J || wq; n = 0; do :: n <= DEPTH -> w = w || rq[n]; n++ :: else -> break od; n = 0;  /* T */
#ifdef M_NOANC
       above = false;
#endif
#ifdef M_NOQUEUE
       w = J; n = 0; do :: n <= DEPTH -> w = w || rq[n]; n++ :: else -> break od; n = 0;
#endif
       if :: p == s || q || above || w -> break :: else fi; p = false; s = false; q = false; above = false; w = false }
  :: look == LOOKS -> assert(false)                                  /* confirmed */
  od
}
init { atomic { byte n; do :: n <= DEPTH -> run Level(n); n++ :: else -> break od } }
