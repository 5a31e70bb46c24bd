#include "postgres/session.hpp"

#include "log.hpp"

#include <array>
#include <cerrno>
#include <cstdlib>
#include <libpq-fe.h>
#include <poll.h>

namespace tandem::postgres {
namespace {

using core::Error;
using core::SessionLost;
using core::Side;

std::string one_line(const char *text) {
    std::string line = text == nullptr ? "" : text;
    while (!line.empty() && (line.back() == '\n' || line.back() == ' '))
        line.pop_back();
    for (char &c : line)
        if (c == '\n')
            c = ' ';
    return line;
}

// Classes that may pass when tried again: connection, rollback by concurrency, resources, operator intervention, lock not available.
bool is_retryable(std::string_view sqlstate) {
    const std::string_view group = sqlstate.substr(0, 2);
    return group == "08" || group == "40" || group == "53" || group == "57" || group == "58" || sqlstate == "55P03" || sqlstate == "25006";
}

void log_notice(void *, const char *message) { log::debug(one_line(message)); }

} // namespace

void Result::Clear::operator()(pg_result *result) const { PQclear(result); }
Result::~Result() = default;
int Result::rows() const { return PQntuples(result_.get()); }
int Result::columns() const { return PQnfields(result_.get()); }
std::string Result::column_name(int column) const { return PQfname(result_.get(), column); }
bool Result::is_null(int row, int column) const { return PQgetisnull(result_.get(), row, column) != 0; }
std::string Result::text(int row, int column) const {
    return std::string(PQgetvalue(result_.get(), row, column), static_cast<std::size_t>(PQgetlength(result_.get(), row, column)));
}
std::int64_t Result::number(int row, int column) const { return std::strtoll(PQgetvalue(result_.get(), row, column), nullptr, 10); }
std::int64_t Result::int8(int row, int column) const {
    const auto *at = reinterpret_cast<const unsigned char *>(PQgetvalue(result_.get(), row, column));
    std::uint64_t value = 0;
    for (int i = 0; i < 8; ++i)
        value = value << 8 | at[i];
    return static_cast<std::int64_t>(value);
}
bool Result::boolean(int row, int column) const { return PQgetvalue(result_.get(), row, column)[0] == 't'; }

void Session::Finish::operator()(pg_conn *connection) const { PQfinish(connection); }
Session::~Session() = default;

Session::Session(const std::string &conninfo, const std::string &application_name, Abandon abandon) : abandon_(std::move(abandon)) {
    // Later entries win: connect_timeout and keepalives are defaults only, the rest is ours to decide.
    const std::array<const char *, 9> names = {"connect_timeout",  "keepalives_idle",  "keepalives_interval",
                                               "keepalives_count", "tcp_user_timeout", "dbname",
                                               "application_name", "client_encoding",  nullptr};
    const std::array<const char *, 9> values = {"10", "10", "5", "3", "30000", conninfo.c_str(), application_name.c_str(), "UTF8", nullptr};
    connection_.reset(PQconnectdbParams(names.data(), values.data(), 1));
    if (!connection_ || PQstatus(connection_.get()) != CONNECTION_OK)
        throw SessionLost(Side::new_side, "could not connect to PostgreSQL: " + one_line(PQerrorMessage(connection_.get())));
    PQsetNoticeProcessor(connection_.get(), log_notice, nullptr);
    PQsetnonblocking(connection_.get(), 1);
    // The backend of a worker that died must not go on waiting in next_question or wait_events as if somebody listened.
    // Our statements are many and short: compiling them (jit) costs more than it can save.
    run("SELECT pg_catalog.set_config(s.name, s.value, false) FROM (VALUES ('search_path', 'pg_catalog, pg_temp'), ('DateStyle', 'ISO'),"
        " ('IntervalStyle', 'postgres'), ('TimeZone', 'UTC'), ('client_encoding', 'UTF8'), ('standard_conforming_strings', 'on'),"
        " ('bytea_output', 'hex'), ('extra_float_digits', '1'), ('statement_timeout', '0'), ('lock_timeout', '0'),"
        " ('idle_session_timeout', '0'), ('jit', 'off'), ('idle_in_transaction_session_timeout', '60s'),"
        " ('client_connection_check_interval', '500ms'), ('default_transaction_isolation', 'read committed'), "
        "('default_transaction_read_only', 'off')) AS s (name, value)");
}

void Session::lost(const std::string &what) {
    const std::string detail = connection_ ? one_line(PQerrorMessage(connection_.get())) : "";
    connection_.reset();
    throw SessionLost(Side::new_side, detail.empty() ? what : what + ": " + detail);
}

// Until the socket can be read (or also written). A session that was abandoned is closed: its transaction may still commit on the
// server, which is why every new session takes a new epoch.
void Session::wait(bool for_write) {
    if (!connection_)
        throw SessionLost(Side::new_side, "the PostgreSQL session is closed");
    pollfd socket{PQsocket(connection_.get()), static_cast<short>(POLLIN | (for_write ? POLLOUT : 0)), 0};
    for (;;) {
        const int ready = ::poll(&socket, 1, 200);
        if (ready > 0)
            return;
        if (ready < 0 && errno != EINTR)
            lost("waiting for PostgreSQL failed");
        if (abandon_ && abandon_())
            lost("gave up a PostgreSQL session that did not answer in time");
    }
}

void Session::flush() {
    for (;;) {
        const int left = PQflush(connection_.get());
        if (left == 0)
            return;
        if (left < 0)
            lost("connection to PostgreSQL lost");
        wait(true);
        if (PQconsumeInput(connection_.get()) == 0)
            lost("connection to PostgreSQL lost");
    }
}

void Session::check(const Result &result) {
    const ExecStatusType status = PQresultStatus(result.result_.get());
    if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == PGRES_COPY_IN || status == PGRES_EMPTY_QUERY)
        return;
    if (connection_ && PQstatus(connection_.get()) == CONNECTION_BAD)
        lost("connection to PostgreSQL lost");
    const auto field = [&](int code) {
        const char *text = PQresultErrorField(result.result_.get(), code);
        return std::string(text == nullptr ? "" : text);
    };
    const std::string sqlstate = field(PG_DIAG_SQLSTATE);
    std::string message = field(PG_DIAG_MESSAGE_PRIMARY);
    if (message.empty())
        message = one_line(PQresultErrorMessage(result.result_.get()));
    if (const std::string detail = field(PG_DIAG_MESSAGE_DETAIL); !detail.empty())
        message += " (" + detail + ")";
    throw Error(Side::new_side, sqlstate, message, is_retryable(sqlstate), field(PG_DIAG_MESSAGE_HINT));
}

// All results of what was sent, up to the point where the server waits for us again. The first error wins.
Result Session::finish_results() {
    Result last(nullptr);
    bool failed = false;
    for (;;) {
        while (PQisBusy(connection_.get()) != 0) {
            wait(false);
            if (PQconsumeInput(connection_.get()) == 0)
                lost("connection to PostgreSQL lost");
        }
        pg_result *next = PQgetResult(connection_.get());
        if (next == nullptr)
            break;
        Result result(next);
        const ExecStatusType status = PQresultStatus(next);
        if (!failed)
            last = std::move(result);
        failed = failed || status == PGRES_FATAL_ERROR;
        if (status == PGRES_COPY_IN)
            break; // copy_begin goes on from here
    }
    if (!last.result_)
        lost("PostgreSQL gave no result");
    check(last);
    return last;
}

Result Session::query(const std::string &sql, const std::vector<Parameter> &parameters) {
    send(sql, parameters);
    return finish_results();
}

void Session::send(const std::string &sql, const std::vector<Parameter> &parameters, bool binary) {
    if (!connection_)
        throw SessionLost(Side::new_side, "the PostgreSQL session is closed");
    std::vector<const char *> values;
    values.reserve(parameters.size());
    for (const Parameter &parameter : parameters)
        values.push_back(parameter ? parameter->c_str() : nullptr);
    if (PQsendQueryParams(connection_.get(), sql.c_str(), static_cast<int>(values.size()), nullptr, values.data(), nullptr, nullptr,
                          binary ? 1 : 0) == 0)
        lost("could not send to PostgreSQL");
    flush();
}

Result Session::run(const std::string &sql) {
    if (!connection_)
        throw SessionLost(Side::new_side, "the PostgreSQL session is closed");
    if (PQsendQuery(connection_.get(), sql.c_str()) == 0)
        lost("could not send to PostgreSQL");
    flush();
    return finish_results();
}

void Session::send_bytes(const std::string &sql, const std::vector<Parameter> &parameters, std::string_view bytes) {
    if (!connection_)
        throw SessionLost(Side::new_side, "the PostgreSQL session is closed");
    const std::size_t count = parameters.size() + 1;
    std::vector<const char *> values;
    std::vector<int> lengths(count, 0), formats(count, 0);
    values.reserve(count);
    for (const Parameter &parameter : parameters)
        values.push_back(parameter ? parameter->c_str() : nullptr);
    values.push_back(bytes.data());
    lengths.back() = static_cast<int>(bytes.size());
    formats.back() = 1;
    if (PQsendQueryParams(connection_.get(), sql.c_str(), static_cast<int>(count), nullptr, values.data(), lengths.data(), formats.data(),
                          0) == 0)
        lost("could not send to PostgreSQL");
    flush();
}

void Session::copy_begin(const std::string &sql) { run(sql); }

void Session::copy_data(std::string_view bytes) {
    if (!connection_)
        throw SessionLost(Side::new_side, "the PostgreSQL session is closed");
    if (PQputCopyData(connection_.get(), bytes.data(), static_cast<int>(bytes.size())) < 0)
        lost("COPY to PostgreSQL failed");
    flush(); // libpq's own buffer would grow without bound
}

void Session::copy_end() {
    if (PQputCopyEnd(connection_.get(), nullptr) < 0)
        lost("COPY to PostgreSQL failed");
    flush();
    finish_results();
}

void Session::copy_abort(const std::string &why) {
    if (PQputCopyEnd(connection_.get(), why.c_str()) < 0)
        lost("COPY to PostgreSQL failed");
    flush();
    try {
        finish_results();
    } catch (const SessionLost &) {
        throw;
    } catch (const Error &) {
        // The error is ours: the server repeats `why`.
    }
}

void Session::on_notice(std::function<void(const std::string &)> sink) {
    notice_sink_ = std::move(sink);
    PQsetNoticeProcessor(
        connection_.get(), [](void *self, const char *message) { static_cast<Session *>(self)->notice_sink_(one_line(message)); }, this);
}

int Session::server_version() const { return connection_ ? PQserverVersion(connection_.get()) : 0; }

bool conninfo_has_password(const std::string &conninfo) {
    char *problem = nullptr;
    PQconninfoOption *options = PQconninfoParse(conninfo.c_str(), &problem);
    PQfreemem(problem); // may quote a part of the string, hence of a password
    if (options == nullptr)
        throw Error(Side::worker, "22023", "the PostgreSQL connection string cannot be read", false,
                    "It is either key=value pairs (host=… dbname=…) or a URI (postgresql://…).");
    bool found = false;
    for (const PQconninfoOption *option = options; option->keyword != nullptr; ++option) {
        const std::string_view keyword = option->keyword;
        if ((keyword == "password" || keyword == "sslpassword") && option->val != nullptr && option->val[0] != '\0')
            found = true;
    }
    PQconninfoFree(options);
    return found;
}

} // namespace tandem::postgres
