#include "mysql/parameters.hpp"

#include "core/error.hpp"
#include "mysql/errors.hpp"

namespace tandem::mysql {

void Parameters::add(const core::OldValue &value) {
    Slot &slot = slots_.emplace_back();
    slot.value = value;
    using Kind = core::OldValue::Kind;
    MYSQL_BIND bind{};
    const core::CivilTime &time = slot.value.time;
    switch (slot.value.kind) {
    case Kind::null:
        bind.buffer_type = MYSQL_TYPE_NULL;
        break;
    case Kind::integer:
    case Kind::unsigned_integer:
        bind.buffer_type = MYSQL_TYPE_LONGLONG;
        bind.buffer = &slot.value.integer;
        bind.is_unsigned = slot.value.kind == Kind::unsigned_integer ? 1 : 0;
        break;
    case Kind::real:
        bind.buffer_type = MYSQL_TYPE_FLOAT;
        bind.buffer = &slot.value.real;
        break;
    case Kind::double_precision:
        bind.buffer_type = MYSQL_TYPE_DOUBLE;
        bind.buffer = &slot.value.number;
        break;
    case Kind::date:
    case Kind::datetime:
    case Kind::time:
        bind.buffer_type = slot.value.kind == Kind::date       ? MYSQL_TYPE_DATE
                           : slot.value.kind == Kind::datetime ? MYSQL_TYPE_DATETIME
                                                               : MYSQL_TYPE_TIME;
        slot.time.time_type = slot.value.kind == Kind::date       ? MYSQL_TIMESTAMP_DATE
                              : slot.value.kind == Kind::datetime ? MYSQL_TIMESTAMP_DATETIME
                                                                  : MYSQL_TIMESTAMP_TIME;
        slot.time.year = static_cast<unsigned>(time.year);
        slot.time.month = static_cast<unsigned>(time.month);
        // The protocol has one byte for hours: more than 23 of a TIME travel as days.
        slot.time.day = static_cast<unsigned>(slot.value.kind == Kind::time ? time.hour / 24 : time.day);
        slot.time.hour = static_cast<unsigned>(slot.value.kind == Kind::time ? time.hour % 24 : time.hour);
        slot.time.minute = static_cast<unsigned>(time.minute);
        slot.time.second = static_cast<unsigned>(time.second);
        slot.time.second_part = static_cast<unsigned long>(time.micro);
        slot.time.neg = time.negative ? 1 : 0;
        bind.buffer = &slot.time;
        break;
    case Kind::text:
    case Kind::json:
    case Kind::bytes:
        // A string has the character set of the connection, utf8mb4; a blob has none.
        bind.buffer_type = slot.value.kind == Kind::bytes ? MYSQL_TYPE_BLOB : MYSQL_TYPE_STRING;
        bind.buffer = slot.value.bytes.data();
        bind.buffer_length = slot.length = slot.value.bytes.size();
        bind.length = &slot.length;
        break;
    }
    binds_.push_back(bind);
}

Statement::Statement(Client &client, const std::string &sql, std::string doing)
    : statement_(mysql_stmt_init(client.handle())), doing_(std::move(doing)) {
    if (!statement_)
        throw core::Error(core::Side::worker, "53200", "out of memory", true);
    if (mysql_stmt_prepare(statement_.get(), sql.data(), sql.size()) != 0)
        fail();
}

void Statement::fail() const {
    throw_error(mysql_stmt_errno(statement_.get()), mysql_stmt_sqlstate(statement_.get()), mysql_stmt_error(statement_.get()), doing_);
}

std::uint64_t Statement::execute(Parameters &parameters) {
    if (parameters.binds_.size() != mysql_stmt_param_count(statement_.get()))
        throw core::Error(core::Side::worker, "XX000", doing_ + ": wrong number of parameters", false);
    if (!parameters.binds_.empty() && mysql_stmt_bind_param(statement_.get(), parameters.binds_.data()) != 0)
        fail();
    if (mysql_stmt_execute(statement_.get()) != 0)
        fail();
    return mysql_stmt_affected_rows(statement_.get());
}

} // namespace tandem::mysql
