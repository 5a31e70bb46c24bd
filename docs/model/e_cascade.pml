/* E. cascades that no trigger sees.      (docs/protocol.md section 7; docs/architecture.md, invariants I1, I2, I10)
 *
 * A chain of one row per table: row 0 <- row 1 <- row 2. A value is 0 = absent, 1 = present without a parent, 2 = present and
 * referring to the row before it. Deleting or replacing row k on the old side changes row k+1 (and so on) WITHOUT an event:
 * CASCADE removes it, SET NULL makes it 1. Row k's own statements write an event in the same transaction.
 * Pump   : read_snapshot + copy_batch are one step here (model A takes them apart); any subset of the tables is read (a limit was
 *          reached in the others); two batches in flight; apply in order; delete_exact per batch.
 * Apply  : expand_cascades looks the children up on the new side, as it is before the batch changes it, and makes requests in the
 *          transaction that applies the parent. The worker puts a request into the child's outbox, then finishes it.
 * Retry  : an image may fail and be kept (retry or dead letter) and land later, unless a later image supersedes it.
 * -DBACKFILL: nothing is on the new side at first; chunks are read by the same pump, in the same order of snapshots.
 * Property: drained => every row is equal.
 * RULES (each has a mutant):
 *   INSFLAG  an insert event of a table that cascades refer to counts as a removal: the row was absent before, perhaps by a cascade
 *   ABSENT   a row that turns out to be absent is expanded whatever its events say: a cascade may have removed it
 *   KEPT     children whose image waits in retry or dead letters are children too
 *   ORPHANS  when the backfill of a table is done, its children on the new side whose parent is not there are requested: while it ran, a
 *            cascade through a row that was not on the new side yet could not be followed
 * Mutants asked of the protocol besides: READLOOKUP (looked up when the event is read), REQFIRST (request finished before the outbox
 * insert), BFOLD (chunk read in an older snapshot, queued after the parent's batch), REPLACE (flag lost when the image is present).
 */
#ifndef TX
#define TX 2
#endif
#ifndef FAULTS
#define FAULTS 1    /* worker killed, PG crash, an image that fails */
#endif
#define NO 3
byte my[4], tgt[4], rt[4] = NO;     /* old side; new side; kept image */
byte ev[3], e1[3];                  /* committed events (2 ids per table); those that say "removes" */
byte inf[6];                        /* ids in flight: slot*3+table */
bool busy[2], ack[2]; byte next;    /* batches in flight, journalled */
byte rq[4];                         /* requests: 0 none, 1 pending, 2 in the outbox but not finished, 3 both */
byte bf[3], gen, txleft = TX, faults = FAULTS;
bool setnull[2];
chan q = [2] of { byte, byte, byte, byte, byte, byte, byte };   /* gen, slot (2 = chunk), tables, flags, images */
#ifdef M_REQFIRST
byte pend[3];
#endif
#ifdef M_BFOLD
byte held[3];
#endif

#define FREEID(k) (((ev[k]|inf[k]|inf[3+k])&3)!=3)              /* an id that is not visible and not held by anybody */
inline event(k,r) {
  if :: !((ev[k]|inf[k]|inf[3+k])&1) -> ev[k]=ev[k]|1; e1[k]=(e1[k]&2)|(r)
     :: else -> ev[k]=ev[k]|2; e1[k]=(e1[k]&1)|((r)<<1) fi }
inline cascade(k) {                                              /* row k was removed: what the engine does to the rows behind it */
  if :: k<2 && my[k+1]==2 ->
        if :: setnull[k] -> my[k+1]=1
           :: else -> my[k+1]=0; if :: k==0 && my[2]==2 -> if :: setnull[1] -> my[2]=1 :: else -> my[2]=0 fi :: else fi fi
     :: else fi }
#ifdef M_INSFLAG
#define INS 0
#else
#define INS 1
#endif
#define MAYREFER(k) (k>0 && my[k-1]!=0)
#define STMT(k) \
  :: atomic { txleft>0 && FREEID(k) -> txleft--; \
       if :: my[k]!=0 -> cascade(k); my[k]=0; event(k,1)                                     /* DELETE */ \
          :: my[k]==0 -> if :: my[k]=1 :: MAYREFER(k) -> my[k]=2 fi; event(k,INS)           /* INSERT */ \
          :: my[k]!=0 && MAYREFER(k) -> my[k]=3-my[k]; event(k,0)                           /* UPDATE of the foreign key */ \
          :: my[k]!=0 -> cascade(k); if :: my[k]=1 :: MAYREFER(k) -> my[k]=2 fi; event(k,1)  /* REPLACE, or DELETE + INSERT */ \
       fi }
proctype Writer() { do STMT(0) STMT(1) STMT(2) od }

inline request(k) { if :: rq[k]==0 -> rq[k]=1 :: rq[k]==2 -> rq[k]=3 :: else fi }
#ifdef M_KEPT
#define REFERS(k) (tgt[k]==2)
#else
#define REFERS(k) (tgt[k]==2 || rt[k]==2)
#endif
#ifdef M_READLOOKUP
#define ATREAD(k) if :: ((f>>k)&1) && REFERS(k+1) -> request(k+1) :: else fi
#define ATAPPLY(k) skip
#else
#define ATREAD(k) skip
#if defined(M_ABSENT)
#define EXPANDS(k) ((f>>k)&1)
#elif defined(M_REPLACE)
#define EXPANDS(k) (i[k]==0)
#else
#define EXPANDS(k) (((f>>k)&1) || i[k]==0)
#endif
#define ATAPPLY(k) if :: ((m>>k)&1) && s!=2 && EXPANDS(k) && REFERS(k+1) -> request(k+1) :: else fi
#endif

#define NEW(k) (ev[k] & ~(inf[k]|inf[3+k]))
#define READ(k) if :: NEW(k) -> m=m|(1<<k); i[k]=my[k]; if :: NEW(k)&e1[k] -> f=f|(1<<k) :: else fi; inf[next*3+k]=NEW(k) :: skip fi
#ifdef M_BFOLD
#define CHUNK(k) \
  :: atomic { bf[k]==0 -> bf[k]=1; held[k]=my[k] } \
  :: atomic { bf[k]==1 && held[k]!=NO && nfull(q) -> i[k]=held[k]; held[k]=NO; q!gen,2,(1<<k),0,i[0],i[1],i[2]; i[k]=0 }
#else
#define CHUNK(k) :: atomic { bf[k]==0 && nfull(q) -> bf[k]=1; i[k]=my[k]; q!gen,2,(1<<k),0,i[0],i[1],i[2]; i[k]=0 }
#endif
#define DELETE(s) \
  :: atomic { busy[s] && ack[s] -> ev[0]=ev[0]&~inf[s*3]; ev[1]=ev[1]&~inf[s*3+1]; ev[2]=ev[2]&~inf[s*3+2]; \
       e1[0]=e1[0]&ev[0]; e1[1]=e1[1]&ev[1]; e1[2]=e1[2]&ev[2]; \
       inf[s*3]=0; inf[s*3+1]=0; inf[s*3+2]=0; busy[s]=false; ack[s]=false }
#ifdef M_REQFIRST
#define REQUEST(k) \
  :: atomic { rq[k]==1 && !pend[k] -> rq[k]=0; pend[k]=1 } \
  :: atomic { pend[k] && FREEID(k) -> event(k,0); pend[k]=0 }
#else
#define REQUEST(k) \
  :: atomic { rq[k]==1 && FREEID(k) -> event(k,0); rq[k]=2 }    /* committed on the old side */ \
  :: atomic { rq[k]>=2 -> rq[k]=rq[k]-2 }                       /* finish_requests */
#endif
proctype Pump() {
  byte m, f, i[3];
  do
  :: atomic { !busy[next] && nfull(q) && (NEW(0)|NEW(1)|NEW(2))!=0 ->                    /* read_snapshot, copy_batch */
       READ(0); READ(1); READ(2);
       if :: m==0 -> skip
          :: m!=0 -> ATREAD(0); ATREAD(1); q!gen,next,m,f,i[0],i[1],i[2]; busy[next]=true; next=1-next fi;
       m=0; f=0; i[0]=0; i[1]=0; i[2]=0 }
  CHUNK(0) CHUNK(1) CHUNK(2)
  DELETE(0) DELETE(1)                                                                    /* await_journal, delete_exact */
  REQUEST(1) REQUEST(2)
  od
}

#ifdef M_ORPHANS
#define BFDONE(k) bf[k]=2
#else
#define BFDONE(k) bf[k]=2; if :: k<2 && tgt[k]==0 && REFERS(k+1) -> request(k+1) :: else fi
#endif
#define LAND(k) \
  if :: (m>>k)&1 -> if :: s==2 && i[k]==0 -> skip                /* a chunk carries present rows only */ \
                       :: !(s==2 && i[k]==0) -> tgt[k]=i[k]; rt[k]=NO \
                       :: !(s==2 && i[k]==0) && faults>0 -> faults--; rt[k]=i[k] fi; \
                    if :: s==2 -> BFDONE(k) :: else fi \
     :: else fi
proctype Apply() {
  byte g, s, m, f, i[3];
  do
  :: atomic { nempty(q) -> q?g,s,m,f,i[0],i[1],i[2];                                     /* apply_batch */
       if :: g==gen -> ATAPPLY(0); ATAPPLY(1); LAND(0); LAND(1); LAND(2); if :: s!=2 -> ack[s]=true :: else fi
          :: else fi;
       g=0; s=0; m=0; f=0; i[0]=0; i[1]=0; i[2]=0 }
  :: atomic { rt[0]!=NO -> tgt[0]=rt[0]; rt[0]=NO }                                      /* apply_retry */
  :: atomic { rt[1]!=NO -> tgt[1]=rt[1]; rt[1]=NO }
  :: atomic { rt[2]!=NO -> tgt[2]=rt[2]; rt[2]=NO }
  :: atomic { faults>0 -> faults--; gen++;                                               /* worker killed: the queue survives, is refused */
       if :: skip :: do :: nempty(q) -> q?_,_,_,_,_,_,_ :: else -> break od fi;          /* or PG crash: the queue is lost */
       inf[0]=0; inf[1]=0; inf[2]=0; inf[3]=0; inf[4]=0; inf[5]=0; busy[0]=false; busy[1]=false; ack[0]=false; ack[1]=false; next=0;
#ifdef M_REQFIRST
       pend[1]=0; pend[2]=0;
#endif
#ifdef M_BFOLD
       held[0]=NO; held[1]=NO; held[2]=NO;
#endif
       if :: rq[1]>=2 -> rq[1]=1 :: else fi; if :: rq[2]>=2 -> rq[2]=1 :: else fi;
       if :: bf[0]==1 -> bf[0]=0 :: else fi; if :: bf[1]==1 -> bf[1]=0 :: else fi; if :: bf[2]==1 -> bf[2]=0 :: else fi }
  od
}
#define NOEV (ev[0]==0 && ev[1]==0 && ev[2]==0 && rq[1]==0 && rq[2]==0)
#ifdef M_REQFIRST
#define QUIET (NOEV && !pend[1] && !pend[2] && empty(q) && rt[0]==NO && rt[1]==NO && rt[2]==NO && bf[0]==2 && bf[1]==2 && bf[2]==2)
#else
#define QUIET (NOEV && empty(q) && rt[0]==NO && rt[1]==NO && rt[2]==NO && bf[0]==2 && bf[1]==2 && bf[2]==2)
#endif
#define EQ (tgt[0]==my[0] && tgt[1]==my[1] && tgt[2]==my[2])
proctype Monitor() {
  do :: atomic { QUIET && !EQ -> assert(false) }                                         /* drained, yet different */
     :: atomic { timeout -> assert(QUIET && txleft==0); assert(EQ); break } od }
init { atomic {
  if :: setnull[0]=true :: skip fi; if :: setnull[1]=true :: skip fi;
  my[0]=1; if :: my[1]=2 :: my[1]=1 :: skip fi; if :: my[1]!=0 -> my[2]=2 :: skip fi;
#ifdef M_BFOLD
  held[0]=NO; held[1]=NO; held[2]=NO;
#endif
#ifndef BACKFILL
  tgt[0]=my[0]; tgt[1]=my[1]; tgt[2]=my[2]; bf[0]=2; bf[1]=2; bf[2]=2
#endif
  run Writer(); run Pump(); run Apply(); run Monitor() } }
