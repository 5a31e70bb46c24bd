// See table_plan.hpp.
#include "table_plan.hpp"

extern "C" {
#include "access/stratnum.h"
#include "catalog/pg_type.h"
#include "parser/parse_coerce.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/queryenvironment.h"
#include "utils/typcache.h"
}

namespace tandem {
namespace {

SPIPlanPtr prepare(const char *text) {
    SPIPlanPtr plan = SPI_prepare(text, 0, nullptr);
    if (plan == nullptr)
        elog(ERROR, "SPI: %s in: %s", SPI_result_code_string(SPI_result), text);
    SPI_keepplan(plan);
    return plan;
}

bool is_string(Oid type) {
    char category;
    bool preferred;
    get_type_category_preferred(type, &category, &preferred);
    return category == TYPCATEGORY_STRING;
}

Oid value_type(const SourceTable *table, const TargetColumn *column) {
    return column->source_column >= 0 ? table->columns[column->source_column].type : column->base_type;
}

void append_target_list(StringInfo out, const SourceTable *table) {
    for (int i = 0; i < table->target_count; i++)
        appendStringInfo(out, "%s%s", i > 0 ? ", " : "", quote_identifier(table->targets[i].name));
}

void append_value_list(StringInfo out, const SourceTable *table) {
    for (int i = 0; i < table->target_count; i++) {
        if (i > 0)
            appendStringInfoString(out, ", ");
        append_value(out, table, &table->targets[i]);
    }
}

// Key columns are set only when equal keys can differ in their bytes (numeric scale, case): else the row lock would be stronger than needed.
bool is_set_by_update(const TargetColumn *column) { return column->key_position == 0 || !column->image_equal; }

void append_row(StringInfo out, const SourceTable *table, const char *of) {
    const char *separator = "";
    appendStringInfoString(out, "CAST(ROW(");
    for (int i = 0; i < table->target_count; i++) {
        if (!is_set_by_update(&table->targets[i]))
            continue;
        appendStringInfo(out, "%s%s.%s", separator, of, quote_identifier(table->targets[i].name));
        separator = ", ";
    }
    appendStringInfoString(out, ") AS pg_catalog.record)");
}

} // namespace

char *unbounded_type(Oid type) { return format_type_extended(type, -1, FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY); }

void append_value(StringInfo out, const SourceTable *table, const TargetColumn *column) {
    if (column->source_column < 0) {
        appendStringInfo(out, "(%s)", column->expression);
        return;
    }
    const char *name = quote_identifier(table->columns[column->source_column].identifier);
    if (column->enum_from_text)
        appendStringInfo(out, "CAST(%s AS %s)", name, unbounded_type(column->base_type));
    else
        appendStringInfoString(out, name);
}

void append_equality(StringInfo out, const char *left, Oid left_type, const char *right, Oid right_type) {
    const TypeCacheEntry *entry = lookup_type_cache(left_type, TYPECACHE_EQ_OPR | TYPECACHE_BTREE_OPFAMILY);
    if (!OidIsValid(entry->eq_opr))
        ereport(ERROR, (errcode(ERRCODE_UNDEFINED_FUNCTION), errmsg("type %s has no equality operator", format_type_be(left_type))));
    Oid equality = InvalidOid;
    if (OidIsValid(entry->btree_opf))
        equality = get_opfamily_member(entry->btree_opf, entry->btree_opintype, right_type, BTEqualStrategyNumber);
    if (!OidIsValid(equality)) {
        equality = entry->eq_opr;
        if (!IsBinaryCoercible(right_type, left_type)) {
            right = psprintf("CAST(%s AS %s)", right, unbounded_type(left_type));
            right_type = left_type;
        }
    }
    generate_operator_clause(out, left, left_type, equality, right, right_type);
}

void register_rows(const char *name, TupleDesc desc, Tuplestorestate *rows, double expected) {
    auto relation = static_cast<EphemeralNamedRelation>(palloc0(sizeof(EphemeralNamedRelationData)));
    relation->md.name = pstrdup(name);
    relation->md.reliddesc = InvalidOid;
    relation->md.tupdesc = desc;
    relation->md.enrtype = ENR_NAMED_TUPLESTORE;
    relation->md.enrtuples = expected; // kept plans are made once and run for sets of any size
    relation->reldata = rows;
    const int code = SPI_register_relation(relation);
    if (code != SPI_OK_REL_REGISTER)
        elog(ERROR, "SPI_register_relation: %s", SPI_result_code_string(code));
}

// SELECT list with the target's key under the names tandem_k1, tandem_k2 …, so that no old name can be taken for one of the target's.
void append_key_values(StringInfo out, const SourceTable *table) {
    for (int i = 0; i < table->target_key_count; i++) {
        const TargetColumn *column = table->target_key[i];
        if (i > 0)
            appendStringInfoString(out, ", ");
        if (column->source_column >= 0 && !column->enum_from_text) {
            append_value(out, table, column);
        } else {
            appendStringInfoString(out, "CAST(");
            append_value(out, table, column);
            appendStringInfo(out, " AS %s)", unbounded_type(column->base_type));
        }
        appendStringInfo(out, " AS tandem_k%d", i + 1);
    }
}

void append_key_match(StringInfo out, const SourceTable *table) {
    for (int i = 0; i < table->target_key_count; i++) {
        const TargetColumn *column = table->target_key[i];
        const char *left = psprintf("t.%s", quote_identifier(column->name));
        const char *right = psprintf("s.tandem_k%d", i + 1);
        const Oid right_type = column->enum_from_text ? column->base_type : value_type(table, column);
        if (i > 0)
            appendStringInfoString(out, " AND ");
        append_equality(out, left, column->base_type, right, right_type);
        // Case-insensitive target keys: 'abc' going away must not take 'ABC', which replaced it, along.
        if (!column->image_equal && is_string(column->base_type))
            appendStringInfo(out,
                             " AND CAST(%s AS pg_catalog.text) COLLATE pg_catalog.\"C\" OPERATOR(pg_catalog.=) "
                             "CAST(%s AS pg_catalog.text) COLLATE pg_catalog.\"C\"",
                             left, right);
    }
}

void append_own_rows(StringInfo out, const SourceTable *table) {
    for (int i = 0; i < table->target_key_count; i++) {
        const TargetColumn *column = table->target_key[i];
        if (column->source_column >= 0)
            continue;
        appendStringInfoString(out, " AND ");
        append_equality(out, psprintf("t.%s", quote_identifier(column->name)), column->base_type,
                        psprintf("CAST((%s) AS %s)", column->expression, unbounded_type(column->base_type)), column->base_type);
    }
}

SPIPlanPtr delete_keys_plan(SourceTable *table) {
    if (table->plans.delete_keys == nullptr) {
        StringInfoData sql;
        initStringInfo(&sql);
        appendStringInfo(&sql, "DELETE FROM %s AS t USING (SELECT ", table->target_name);
        append_key_values(&sql, table);
        appendStringInfo(&sql, " FROM %s) AS s WHERE ", keys_relation);
        append_key_match(&sql, table);
        table->plans.delete_keys = prepare(sql.data);
    }
    return table->plans.delete_keys;
}

SPIPlanPtr upsert_plan(SourceTable *table) {
    if (table->plans.upsert == nullptr) {
        StringInfoData sql;
        initStringInfo(&sql);
        appendStringInfo(&sql, "INSERT INTO %s AS t (", table->target_name);
        append_target_list(&sql, table);
        appendStringInfoString(&sql, ") OVERRIDING SYSTEM VALUE SELECT ");
        append_value_list(&sql, table);
        appendStringInfo(&sql, " FROM %s ON CONFLICT (", rows_relation);
        for (int i = 0; i < table->target_key_count; i++)
            appendStringInfo(&sql, "%s%s", i > 0 ? ", " : "", quote_identifier(table->target_key[i]->name));
        const char *separator = ") DO UPDATE SET ";
        for (int i = 0; i < table->target_count; i++) {
            if (!is_set_by_update(&table->targets[i]))
                continue;
            const char *name = quote_identifier(table->targets[i].name);
            appendStringInfo(&sql, "%s%s = excluded.%s", separator, name, name);
            separator = ", ";
        }
        if (separator[0] == ')') {
            appendStringInfoString(&sql, ") DO NOTHING");
        } else {
            appendStringInfoString(&sql, " WHERE ");
            append_row(&sql, table, "t");
            appendStringInfoString(&sql, " OPERATOR(pg_catalog.*<>) ");
            append_row(&sql, table, "excluded");
        }
        table->plans.upsert = prepare(sql.data);
    }
    return table->plans.upsert;
}

SPIPlanPtr wanted_rows_plan(SourceTable *table) {
    if (table->plans.wanted_rows == nullptr)
        table->plans.wanted_rows = prepare(psprintf("SELECT %s FROM %s WHERE (%s) IS TRUE", row_number_sql, rows_relation, table->filter));
    return table->plans.wanted_rows;
}

namespace {

SPIPlanPtr keys_plan(SourceTable *table, const char *locking) {
    StringInfoData sql;
    initStringInfo(&sql);
    appendStringInfoString(&sql, "SELECT FROM (SELECT ");
    append_key_values(&sql, table);
    appendStringInfo(&sql, " FROM %s) AS s JOIN %s AS t ON ", keys_relation, table->target_name);
    append_key_match(&sql, table);
    appendStringInfoString(&sql, locking);
    return prepare(sql.data);
}

} // namespace

SPIPlanPtr present_keys_plan(SourceTable *table) {
    if (table->plans.present_keys == nullptr)
        table->plans.present_keys = keys_plan(table, "");
    return table->plans.present_keys;
}

SPIPlanPtr lock_keys_plan(SourceTable *table) {
    if (table->plans.lock_keys == nullptr)
        table->plans.lock_keys = keys_plan(table, " FOR NO KEY UPDATE OF t NOWAIT");
    return table->plans.lock_keys;
}

SPIPlanPtr compare_rows_plan(SourceTable *table) {
    if (table->plans.compare_rows == nullptr) {
        StringInfoData sql;
        StringInfoData wanted;  // what apply would write, under the names tandem_v1, tandem_v2 …
        StringInfoData present; // the same columns of the target
        StringInfoData names;
        initStringInfo(&sql);
        initStringInfo(&wanted);
        initStringInfo(&present);
        initStringInfo(&names);
        for (int i = 0; i < table->target_count; i++) {
            const TargetColumn *column = &table->targets[i];
            appendStringInfoString(&wanted, ", CAST(");
            append_value(&wanted, table, column);
            appendStringInfo(&wanted, " AS %s) AS tandem_v%d",
                             format_type_extended(column->type, column->typmod, FORMAT_TYPE_TYPEMOD_GIVEN | FORMAT_TYPE_FORCE_QUALIFY),
                             i + 1);
            appendStringInfo(&present, "%st.%s", i > 0 ? ", " : "", quote_identifier(column->name));
            appendStringInfo(&names, "%ss.tandem_v%d", i > 0 ? ", " : "", i + 1);
        }
        appendStringInfo(&sql,
                         "SELECT CASE WHEN t.%s IS NULL THEN 0 WHEN CAST(ROW(%s) AS pg_catalog.record) OPERATOR(pg_catalog.*=) "
                         "CAST(ROW(%s) AS pg_catalog.record) THEN 1 ELSE 2 END FROM (SELECT ",
                         quote_identifier(table->target_key[0]->name), present.data, names.data);
        append_key_values(&sql, table);
        appendStringInfo(&sql, "%s FROM %s) AS s LEFT JOIN %s AS t ON ", wanted.data, rows_relation, table->target_name);
        append_key_match(&sql, table);
        table->plans.compare_rows = prepare(sql.data);
    }
    return table->plans.compare_rows;
}

SPIPlanPtr take_rows_plan(SourceTable *table) {
    if (table->plans.take_rows == nullptr) {
        StringInfoData sql;
        ListCell *cell;
        initStringInfo(&sql);
        appendStringInfo(&sql, "DELETE FROM %s AS t USING (SELECT %s, ", table->target_name, row_number_sql);
        append_key_values(&sql, table);
        appendStringInfo(&sql, " FROM %s) AS s WHERE ", rows_relation);
        append_key_match(&sql, table);
        appendStringInfo(&sql, " RETURNING s.%s AS \"tandem_kept_row \"", row_number_sql);
        int number = 0;
        foreach (cell, table->kept_columns)
            appendStringInfo(&sql, ", t.%s AS \"tandem_kept_%d \"", quote_identifier(static_cast<char *>(lfirst(cell))), ++number);
        table->plans.take_rows = prepare(sql.data);
    }
    return table->plans.take_rows;
}

SPIPlanPtr put_kept_plan(SourceTable *table) {
    if (table->plans.put_kept == nullptr) {
        StringInfoData sql;
        ListCell *cell;
        int number = 0;
        initStringInfo(&sql);
        appendStringInfo(&sql, "INSERT INTO %s (", table->target_name);
        append_target_list(&sql, table);
        foreach (cell, table->kept_columns)
            appendStringInfo(&sql, ", %s", quote_identifier(static_cast<char *>(lfirst(cell))));
        appendStringInfoString(&sql, ") OVERRIDING SYSTEM VALUE SELECT ");
        append_value_list(&sql, table);
        foreach (cell, table->kept_columns)
            appendStringInfo(&sql, ", \"tandem_kept_%d \"", ++number);
        appendStringInfo(&sql, " FROM %s JOIN %s ON \"tandem_kept_row \" OPERATOR(pg_catalog.=) %s", rows_relation, kept_relation,
                         row_number_sql);
        appendStringInfoString(&sql, " ON CONFLICT DO NOTHING");
        table->plans.put_kept = prepare(sql.data);
    }
    return table->plans.put_kept;
}

SPIPlanPtr put_new_plan(SourceTable *table) {
    if (table->plans.put_new == nullptr) {
        StringInfoData sql;
        initStringInfo(&sql);
        appendStringInfo(&sql, "INSERT INTO %s (", table->target_name);
        append_target_list(&sql, table);
        appendStringInfoString(&sql, ") OVERRIDING SYSTEM VALUE SELECT ");
        append_value_list(&sql, table);
        appendStringInfo(&sql, " FROM %s WHERE NOT EXISTS (SELECT FROM %s WHERE \"tandem_kept_row \" OPERATOR(pg_catalog.=) %s)",
                         rows_relation, kept_relation, row_number_sql);
        appendStringInfoString(&sql, " ON CONFLICT DO NOTHING");
        table->plans.put_new = prepare(sql.data);
    }
    return table->plans.put_new;
}

SPIPlanPtr missing_rows_plan(SourceTable *table) {
    if (table->plans.missing_rows == nullptr) {
        StringInfoData sql;
        initStringInfo(&sql);
        appendStringInfo(&sql, "SELECT s.%s FROM (SELECT %s, ", row_number_sql, row_number_sql);
        append_key_values(&sql, table);
        appendStringInfo(&sql, " FROM %s) AS s WHERE NOT EXISTS (SELECT FROM %s AS t WHERE ", rows_relation, table->target_name);
        append_key_match(&sql, table);
        appendStringInfoChar(&sql, ')');
        table->plans.missing_rows = prepare(sql.data);
    }
    return table->plans.missing_rows;
}

} // namespace tandem
