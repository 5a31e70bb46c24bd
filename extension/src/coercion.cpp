// See coercion.hpp.
#include "coercion.hpp"

extern "C" {
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "utils/lsyscache.h"
}

namespace tandem {

bool prepare_coercion(Coercion *coercion, Oid from, std::int32_t from_typmod, Oid to, std::int32_t to_typmod, CoercionContext how) {
    CaseTestExpr *placeholder = makeNode(CaseTestExpr);
    placeholder->typeId = from;
    placeholder->typeMod = from_typmod;
    placeholder->collation = get_typcollation(from);
    auto plain = reinterpret_cast<Node *>(placeholder);
    Node *converted = coerce_to_target_type(nullptr, plain, from, to, to_typmod, how,
                                            how == COERCION_EXPLICIT ? COERCE_EXPLICIT_CAST : COERCE_IMPLICIT_CAST, -1);
    coercion->state = nullptr;
    coercion->context = nullptr;
    if (converted == nullptr)
        return false;
    if (converted == plain ||
        (IsA(converted, RelabelType) && reinterpret_cast<Node *>(reinterpret_cast<RelabelType *>(converted)->arg) == plain))
        return true;
    coercion->state = ExecInitExpr(expression_planner(reinterpret_cast<Expr *>(converted)), nullptr);
    coercion->context = CreateStandaloneExprContext();
    return true;
}

Datum coerce(Coercion *coercion, Datum value, bool *is_null) {
    if (coercion->state == nullptr)
        return value;
    coercion->context->caseValue_datum = value;
    coercion->context->caseValue_isNull = *is_null;
    return ExecEvalExprSwitchContext(coercion->state, coercion->context, is_null);
}

void reset_coercion(Coercion *coercion) {
    if (coercion->context != nullptr)
        ResetExprContext(coercion->context);
}

} // namespace tandem
