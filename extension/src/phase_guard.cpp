// Trigger on targets: a write by anybody but apply is refused where the table's phase says so (docs/phases.md, "Guard").
//
// Fires for each row, and is cheap: the phase is read once per statement. It cannot change under the statement where that matters, because the
// writer holds the target's RowExclusiveLock already, and whoever takes the truth away from the new side locks the target against writers first.
// The newest phase is read and not that of the snapshot, so a writer at REPEATABLE READ that began before the move is refused as well.
#include "phase.hpp"

extern "C" {
#include "commands/trigger.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
}

namespace tandem {
namespace {

enum class Verdict : std::uint8_t { unknown, pass, refuse };

struct Decision {
    Verdict verdict;
    Phase phase;
};

const Decision *decide(FunctionCallInfo fcinfo, const TriggerData *trigger) {
    auto decision = static_cast<Decision *>(fcinfo->flinfo->fn_extra);
    if (decision == nullptr) {
        decision = static_cast<Decision *>(MemoryContextAllocZero(fcinfo->flinfo->fn_mcxt, sizeof(Decision)));
        fcinfo->flinfo->fn_extra = decision;
    }
    if (decision->verdict == Verdict::unknown) {
        // A trigger that is left behind, for instance in a database restored from a dump without our tables, refuses nothing.
        const bool known = read_phase(pg_strtoint32(trigger->tg_trigger->tgargs[0]), &decision->phase);
        const bool truncates = TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event);
        const bool refuses = known && (strcmp(decision->phase.direct_writes, "refuse") == 0 ||
                                       (truncates && strcmp(decision->phase.direct_writes, "record") == 0));
        decision->verdict = refuses ? Verdict::refuse : Verdict::pass;
    }
    return decision;
}

[[noreturn]] void refuse(const Phase &phase, Relation target, bool truncates) {
    const char *name = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(target)), RelationGetRelationName(target));
    const bool moving = strcmp(phase.phase, "cutover") == 0 || strcmp(phase.phase, "closing") == 0;
    if (truncates && strcmp(phase.direct_writes, "record") == 0)
        ereport(ERROR,
                (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                 errmsg("table %s must not be truncated in phase \"%s\"", name, phase.phase),
                 errdetail("Direct writes are recorded and verified row by row, and TRUNCATE names no rows."), errhint("Use DELETE.")));
    ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
                    errmsg("table %s must not be written to directly in phase \"%s\"", name, phase.phase),
                    moving ? errdetail("The source of truth is being changed from one side to the other.")
                           : errdetail("The old side is the source of truth, and this table follows it."),
                    moving ? errhint("Try again when that is over; SELECT * FROM tandem.phases; shows it.")
                           : errhint("Write to the old side. To have such writes recorded and verified, or allowed: SELECT "
                                     "tandem.set_direct_writes(%s, 'record');",
                                     quote_literal_cstr(name))));
    pg_unreachable();
}

} // namespace
} // namespace tandem

using namespace tandem;

TANDEM_FUNCTION(tandem_guard_target);
Datum tandem_guard_target(PG_FUNCTION_ARGS) {
    auto trigger = reinterpret_cast<TriggerData *>(fcinfo->context);
    if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_BEFORE(trigger->tg_event) || trigger->tg_trigger->tgnargs != 1)
        ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED), errmsg("tandem._guard_target is a trigger of pg_tandem")));
    const Decision *decision = decide(fcinfo, trigger);
    if (decision->verdict == Verdict::refuse)
        refuse(decision->phase, trigger->tg_relation, TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event));
    if (TRIGGER_FIRED_BY_TRUNCATE(trigger->tg_event))
        return PointerGetDatum(nullptr);
    return PointerGetDatum(TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ? trigger->tg_newtuple : trigger->tg_trigtuple);
}
