/* F. capture that was lost, and the way back: loss written down -> install -> reset -> copy -> sweep -> in sync. One row.
 *
 * The old side: the row (my), whether the triggers are whole (trig), the number of the table (ident: another one after TRUNCATE or a swap),
 * events (ob, one bit each; those of a sweep by its loss). PostgreSQL, durable: the row (tgt), what capture was last known by (noted, NONE: nothing),
 * phase (0 in sync, 1 due, 2 copying, 3 sweeping), loss. Everything of the worker and the queue is lost by a crash.
 * Steps and the functions of the code that are these steps: lose_capture (capture_lost), install (install_capture, then note_identity),
 * copy_reset_batch, copy_chunk_batch, sweep (sweep_keys, missing_keys, insert_keys), end_sweep; live fetch and exact delete as in model A.
 * Property: whenever PostgreSQL calls the table in sync, capture is whole and is what was noted, and no event is left: both sides are equal.
 */
#ifndef TX
#define TX 3
#endif
#ifndef HARM
#define HARM 2
#endif
#ifndef CRASH
#define CRASH 1
#endif
#define NONE 255
bool my = true, tgt = true, trig = true;
byte ident, noted, phase, loss, ob, tx = TX, harm = HARM, crash = CRASH;
chan q = [3] of { byte, byte };            /* kind, image or loss */
#define LIVE 1
#define RESET 2
#define CHUNK 3
#define DONE 4                             /* a chunk of a row that is not there */
bool acked;                                /* the live batch in flight is applied */
byte gen;

active proctype Writer() {
  do :: atomic { tx > 0 -> tx--; my = !my; if :: trig -> ob = ob | (1 << tx) :: else fi } od }
active proctype Harm() {
  do :: atomic { harm > 0 && trig -> harm--; trig = false }                 /* DROP TRIGGER */
     :: atomic { harm > 0 -> harm--; my = false; ident++ } od }            /* TRUNCATE */

#define LOST (!trig || noted != ident)
active proctype Worker() {
  byte g, e; bool reset, chunk, seen, swept, settled, gone;
  do
  :: atomic { g != gen -> g = gen; e = 0; reset = false; chunk = false; seen = false; swept = false; settled = false; gone = false }
#ifdef M_LOSSLATE                          /* mended first, written down then */
  :: atomic { g == gen && phase == 0 && LOST -> trig = true; noted = ident };
     atomic { if :: g == gen -> loss++; phase = 1; reset = false; chunk = false; swept = false; settled = false :: else fi }
#else
  :: atomic { g == gen && noted != NONE && LOST -> loss++; phase = 1; noted = NONE; reset = false; chunk = false; seen = false; gone = false; swept = false; settled = false }
#endif
  :: atomic { g == gen && phase > 0 && noted == NONE && !trig -> trig = true }
  :: atomic { g == gen && phase > 0 && noted == NONE && trig -> noted = ident }
  :: atomic { g == gen && phase == 1 && !reset && nfull(q) -> q!RESET,loss; reset = true; chunk = false }
  :: atomic { g == gen && noted != NONE && (reset || phase == 2) && phase != 3 && phase > 0 && !chunk && nfull(q) -> chunk = true;
       if :: my -> q!CHUNK,1 :: else -> q!DONE,0 fi }
#ifdef M_SWEEPEARLY
  :: atomic { g == gen && phase > 0 && !seen && !swept -> if :: tgt -> seen = true :: else -> swept = true fi }
#else
  :: atomic { g == gen && phase == 3 && noted != NONE && !seen && !swept -> if :: tgt -> seen = true :: else -> swept = true fi }
#endif
#ifdef M_DIRECT                            /* what is missing is removed from the target at once */
  :: atomic { g == gen && seen && !swept && !gone -> if :: my -> swept = true :: else -> gone = true fi; seen = gone };
  :: atomic { g == gen && gone -> tgt = false; gone = false; seen = false; swept = true }
#else
  :: atomic { g == gen && seen && !swept -> if :: !my -> ob = ob | (16 << loss) :: else fi; seen = false; swept = true }
#endif
  :: atomic { g == gen && ob != 0 && e == 0 && noted != NONE && nfull(q) -> e = ob; acked = false; q!LIVE,my;
       if :: swept && phase == 3 -> settled = true :: else fi }
  :: atomic { g == gen && e != 0 && acked -> ob = ob & ~e; e = 0; acked = false }
  :: atomic { g == gen && swept && phase == 3 && e == 0 && (settled || ob == 0) -> phase = 0; reset = false; chunk = false; swept = false; settled = false }
  od }

active proctype Apply() {
  byte k, i;
  do
  :: atomic { q?k,i ->
       if :: k == LIVE -> tgt = i; acked = true
          :: k == RESET -> if :: phase == 1 && i == loss -> phase = 2 :: else fi
          :: k == CHUNK || k == DONE -> if :: k == CHUNK -> tgt = true :: else fi;
#ifdef M_NOSWEEP
               if :: phase == 2 -> phase = 0 :: else fi
#else
               if :: phase == 2 -> phase = 3 :: else fi
#endif
       fi; k = 0; i = 0 }
  od }
active proctype Crash() {
  do :: atomic { crash > 0 -> crash--; gen++; acked = false; do :: q?_,_ :: empty(q) -> break od } od }
active proctype Check() {
  do :: atomic { phase == 0 && !LOST && ob == 0 && empty(q) -> assert(my == tgt) } od }
