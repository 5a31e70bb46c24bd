/* G. Writes through PostgreSQL while the old side is the source of truth (protocol.md 19; 69_write_queue.sql, write_pump.cpp, row_writer.cpp).
 *
 * One row on the old side, whose value is the write it was made by. An application of the old side puts 0 back, or writes
 * the very value that write 1 is about to. CL clients read it
 * and write it through the view: phase shared-locked, key locked, refused when an earlier write waits that they have not seen, queued, committed. Two
 * workers may lead one after the other; each takes an epoch on the old side, reads the queue while it has the lease, writes in one transaction with
 * a mark if the row is what the writer saw, acknowledges, forgets the mark. It may take the next write along, in the same transaction on the old side and
 * in the same acknowledgement, if that can be made as well (else it goes alone). NAT writes of the old side in between. A cut-over: no more writes, drained, fenced.
 * Properties: a write that is acknowledged was made, once; none is queued, or waits, once the new side is the truth; without NAT none is refused.
 * mutants: M_NOEPOCH a former leader may still write; M_NOMARK; M_MARKEARLY forgotten before the acknowledgement; M_NOSHARE the phase is only read;
 * M_SAMEVALUE a row that is as it is to be
 * counts as written; M_NODRAIN fenced with writes in the queue; M_NOKEYLOCK; M_NOPENDING earlier writes are not looked for; M_NOACKED nor those
 * that were acknowledged since the statement began.
 */
#ifndef CL
#define CL 2
#endif
#ifndef NAT
#define NAT 1
#endif
#ifndef FAULTS
#define FAULTS 2
#endif
mtype = { OLD, MOVING, NEW };
mtype ph = OLD;
byte my, oepoch, lease, sharers, klock, nextseq, natives, faults;
bool fenced;
mtype = { none, queued, waits, done, refused };
mtype st[CL + 1] = none;
byte seq[CL + 1], before[CL + 1], made[CL + 1], since[CL + 1];   /* since: last acknowledged after the statement of this client began */
bool mark[CL + 1];

inline first(out) {                                  /* the waiting write of the lowest number; 0: none */
  out = 0; k = 1;
  do :: k <= CL -> if :: st[k] == waits && (out == 0 || seq[k] < seq[out]) -> out = k :: else fi; k++ :: else -> break od; k = 0
}
inline second(one, out) {                            /* the next one behind it */
  out = 0; k = 1;
  do :: k <= CL -> if :: st[k] == waits && seq[k] > seq[one] && (out == 0 || seq[k] < seq[out]) -> out = k :: else fi; k++ :: else -> break od; k = 0
}
inline last(out) {
  out = 0; k = 1;
  do :: k <= CL -> if :: st[k] == waits && (out == 0 || seq[k] > seq[out]) -> out = k :: else fi; k++ :: else -> break od; k = 0
}

proctype Client(byte i) {
  byte v, p, k;
  since[i] = 0;                                                               /* the statement's snapshot */
  v = my;                                                                     /* the view reads the old side */
#ifdef M_NOSHARE
  ph == OLD;
#else
  atomic { ph == OLD -> sharers++ }
#endif
#ifndef M_NOKEYLOCK
  atomic { klock == 0 -> klock = i }
#endif
  atomic {
#ifdef M_NOPENDING
    p = v;
#else
    last(p);
#ifndef M_NOACKED
    if :: p == 0 -> p = since[i] :: else fi;
#endif
    if :: p == 0 -> p = v :: else fi;
#endif
    if :: p == v -> nextseq++; seq[i] = nextseq; before[i] = v; st[i] = queued :: else fi; p = 0; v = 0 }    /* else 40001 */
  atomic {                                                                    /* commit, or the end of the refused one */
    if :: st[i] == queued -> assert(ph != NEW); st[i] = waits :: else fi;
#ifndef M_NOSHARE
    sharers--;
#endif
    if :: klock == i -> klock = 0 :: else fi }
}

proctype Worker(byte w) {
  byte e, cur, nxt, ack, k; bool ok;
again:
  cur = 0; nxt = 0; ok = false;
  atomic { faults < FAULTS || lease == 0 -> if :: lease != 0 -> faults++ :: else fi; lease = w }            /* acquire_lease, when the other's is over */
  atomic { oepoch++; e = oepoch }
  do
  :: atomic { lease == w -> first(cur); nxt = 0; if :: cur == 0 -> skip :: else -> if :: second(cur, nxt) :: nxt = 0 fi fi };   /* write_groups */
     if
     :: cur == 0 -> skip
     :: else ->
        atomic {                                                              /* one transaction on the old side */
          if
#ifndef M_NOEPOCH
          :: e != oepoch -> goto again
          :: else ->
#else
          :: true ->
#endif
             if
#ifndef M_NOMARK
             :: mark[cur] -> ok = true
#endif
             :: !mark[cur] && !fenced && my == before[cur] -> my = cur; made[cur]++; assert(made[cur] == 1); mark[cur] = true; ok = true
#ifdef M_SAMEVALUE
             :: !mark[cur] && my == cur && my != before[cur] -> ok = true
             :: !mark[cur] && my != cur && (fenced || my != before[cur]) ->
#else
             :: !mark[cur] && (fenced || my != before[cur]) ->
#endif
                assert(natives > 0 || fenced); ok = false
#ifdef M_NOMARK
             :: mark[cur] && my == before[cur] && !fenced -> made[cur]++; assert(made[cur] == 1)
             :: mark[cur] && my != before[cur] -> ok = my == cur
#endif
             fi;
             if                                                               /* both or, if the second is refused, the first alone */
             :: nxt == 0 -> skip
#ifndef M_NOMARK
             :: nxt != 0 && ok && mark[nxt] -> skip
#endif
             :: nxt != 0 && ok && !mark[nxt] && !fenced && my == before[nxt] -> my = nxt; made[nxt]++; assert(made[nxt] == 1); mark[nxt] = true
             :: else -> nxt = 0
             fi
          fi }
#ifdef M_MARKEARLY
        mark[cur] = false; mark[nxt] = false;
#endif
        if
        :: faults < FAULTS -> faults++; goto again                            /* killed before the acknowledgement */
        :: true
        fi;
        atomic {                                                              /* write_done */
          if
          :: lease == w && st[cur] == waits ->
             if :: ok -> assert(made[cur] == 1); st[cur] = done; ack = cur; if :: nxt != 0 && st[nxt] == waits -> assert(made[nxt] == 1); st[nxt] = done; ack = nxt :: else fi;
                         k = 1; do :: k <= CL -> since[k] = ack; k++ :: else -> break od; k = 0; ack = 0
                :: else -> st[cur] = refused fi
          :: else -> goto again
          fi }
        mark[cur] = false; mark[nxt] = false
     fi
  od
}

active proctype OldApplication() {
  do :: atomic { natives < NAT && !fenced -> natives++; if :: my = 0 :: my = 1 fi } :: natives == NAT -> break :: fenced -> break od
}

active proctype Cutover() {
  byte k; byte p;
  atomic { ph == OLD && sharers == 0 -> ph = MOVING }                         /* cutover_begin waits for whoever shares the phase */
#ifndef M_NODRAIN
  do :: atomic { first(p); if :: p == 0 -> break :: else -> p = 0 fi } od;
#endif
  fenced = true;
  atomic { ph = NEW; first(p); assert(p == 0) }
}

init { atomic { byte n = 1; do :: n <= CL -> run Client(n); n++ :: else -> break od; run Worker(1); run Worker(2) } }
