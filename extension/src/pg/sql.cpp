// See sql.hpp.
#include "pg/sql.hpp"

extern "C" {
#include "utils/lsyscache.h"
}

namespace tandem {

void connect_spi() {
    const int code = SPI_connect();
    if (code != SPI_OK_CONNECT)
        elog(ERROR, "SPI_connect: %s", SPI_result_code_string(code));
}

void finish_spi() {
    const int code = SPI_finish();
    if (code != SPI_OK_FINISH)
        elog(ERROR, "SPI_finish: %s", SPI_result_code_string(code));
}

std::uint64_t execute_plan(SPIPlanPtr plan, const char *what, Datum *values, const char *nulls, DestReceiver *dest) {
    int code;
    if (dest == nullptr) {
        code = SPI_execute_plan(plan, values, nulls, false, 0);
    } else {
        const int count = SPI_getargcount(plan);
        ParamListInfo parameters = makeParamList(count);
        for (int i = 0; i < count; i++) {
            ParamExternData *parameter = &parameters->params[i];
            parameter->value = values[i];
            parameter->isnull = nulls != nullptr && nulls[i] == 'n';
            parameter->pflags = PARAM_FLAG_CONST;
            parameter->ptype = SPI_getargtypeid(plan, i);
        }
        SPIExecuteOptions options;
        memset(&options, 0, sizeof options);
        options.params = parameters;
        options.dest = dest;
        code = SPI_execute_plan_extended(plan, &options);
    }
    if (code < 0)
        elog(ERROR, "SPI: %s in: %s", SPI_result_code_string(code), what);
    return SPI_processed;
}

namespace {

SPIPlanPtr plan_of(Statement *statement) {
    if (statement->plan == nullptr) {
        SPIPlanPtr plan = SPI_prepare(statement->text, statement->parameter_count, statement->parameter_types);
        if (plan == nullptr)
            elog(ERROR, "SPI: %s in: %s", SPI_result_code_string(SPI_result), statement->text);
        SPI_keepplan(plan);
        statement->plan = plan;
    }
    return statement->plan;
}

} // namespace

std::uint64_t execute(Statement *statement, Datum *values, const char *nulls, DestReceiver *dest) {
    return execute_plan(plan_of(statement), statement->text, values, nulls, dest);
}

std::uint64_t execute_read_only(Statement *statement, Datum *values) {
    const int code = SPI_execute_plan(plan_of(statement), values, nullptr, true, 0);
    if (code < 0)
        elog(ERROR, "SPI: %s in: %s", SPI_result_code_string(code), statement->text);
    return SPI_processed;
}

Datum result_value(std::uint64_t row, int column, bool *is_null) {
    return SPI_getbinval(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column, is_null);
}

bool result_is_null(std::uint64_t row, int column) {
    bool is_null;
    (void)result_value(row, column, &is_null);
    return is_null;
}

std::int32_t result_int32(std::uint64_t row, int column) {
    bool is_null;
    const Datum value = result_value(row, column, &is_null);
    return is_null ? 0 : DatumGetInt32(value);
}

std::int64_t result_int64(std::uint64_t row, int column) {
    bool is_null;
    const Datum value = result_value(row, column, &is_null);
    return is_null ? 0 : DatumGetInt64(value);
}

bool result_bool(std::uint64_t row, int column) {
    bool is_null;
    const Datum value = result_value(row, column, &is_null);
    return !is_null && DatumGetBool(value);
}

char *result_text(std::uint64_t row, int column, MemoryContext context) {
    char *text = SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
    return text == nullptr ? nullptr : MemoryContextStrdup(context, text);
}

} // namespace tandem
