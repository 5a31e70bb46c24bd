#include "mysql/client.hpp"

#include "core/error.hpp"
#include "mysql/errors.hpp"
#include "mysql/sql_text.hpp"
#include "mysql/tls.hpp"

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <string_view>

namespace tandem::mysql {
namespace {

constexpr unsigned connect_timeout_s = 10;
constexpr unsigned read_timeout_s = 120;
constexpr unsigned write_timeout_s = 60;
constexpr unsigned long max_packet = 1UL << 30; // the protocol's own limit; the server's max_allowed_packet is lower

void set_option(MYSQL *mysql, mysql_option option, const void *value) {
    if (mysql_optionsv(mysql, option, value) != 0)
        throw core::Error(core::Side::worker, "08001", std::string("client option refused: ") + mysql_error(mysql), false);
}

const char *or_null(const std::string &text) { return text.empty() ? nullptr : text.c_str(); }

void set_tls(MYSQL *mysql, const core::SourceConnection &connection) {
    my_bool yes = 1;
    mysql_ssl_set(mysql, or_null(connection.ssl_key), or_null(connection.ssl_cert), or_null(connection.ssl_ca),
                  or_null(connection.ssl_capath), or_null(connection.ssl_cipher));
    set_option(mysql, MYSQL_OPT_SSL_ENFORCE, &yes);
    set_option(mysql, MYSQL_OPT_SSL_VERIFY_SERVER_CERT, &yes);
}

} // namespace

const std::vector<std::string> &session_settings() {
    // ALLOW_INVALID_DATES and no NO_ZERO_DATE: a cursor or a request may stand on a date that PostgreSQL would not hold, and reading
    // must show what is stored. Strict otherwise: a key that a column cannot hold is an error, never another key.
    //
    // Defaults of an administrator (my.cnf, init_connect) must not reach us: with sql_select_limit rows would look as if they were gone, without
    // autocommit no deletion would ever be committed. Limits go first, as they hold for the statements that follow. /*M! … */ is for MariaDB only,
    // and MariaDB passes over what is for MySQL from 5.7 on. MySQL 8 shows counters and sizes of tables that are up to a day old if it may.
    static const std::vector<std::string> settings{
        "SET SESSION /*M! max_statement_time = 0, */ /*!50708 max_execution_time = 0, */ /*!80000 information_schema_stats_expiry = 0, */"
        " sql_select_limit = 18446744073709551615, "
        "sql_big_selects = 1,"
        " sql_safe_updates = 0, sql_auto_is_null = 0, autocommit = 1, group_concat_max_len = 1048576",
        "SET NAMES utf8mb4",
        "SET SESSION TRANSACTION READ WRITE",
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "SET SESSION sql_mode = 'STRICT_ALL_TABLES,ALLOW_INVALID_DATES,NO_AUTO_VALUE_ON_ZERO,NO_ENGINE_SUBSTITUTION', time_zone = '+00:00'",
        "SET SESSION innodb_lock_wait_timeout = 5, lock_wait_timeout = 10, wait_timeout = 86400, net_write_timeout = 600",
    };
    return settings;
}

void initialize_library() {
    static std::once_flag once; // mysql_library_init is not thread-safe
    std::call_once(once, [] { mysql_library_init(0, nullptr, nullptr); });
}

Client::Client(const core::SourceConnection &connection) {
    initialize_library();
    handle_.reset(mysql_init(nullptr));
    if (!handle_)
        throw core::Error(core::Side::worker, "53200", "out of memory", true);
    MYSQL *mysql = handle_.get();
    const my_bool no = 0;
    const unsigned off = 0;
    set_option(mysql, MYSQL_OPT_RECONNECT, &no);
    set_option(mysql, MYSQL_OPT_LOCAL_INFILE, &off);
    set_option(mysql, MYSQL_OPT_CONNECT_TIMEOUT, &connect_timeout_s);
    set_option(mysql, MYSQL_OPT_READ_TIMEOUT, &read_timeout_s);
    set_option(mysql, MYSQL_OPT_WRITE_TIMEOUT, &write_timeout_s);
    set_option(mysql, MYSQL_OPT_MAX_ALLOWED_PACKET, &max_packet);
    set_option(mysql, MYSQL_SET_CHARSET_NAME, "utf8mb4");
    const bool tls = wants_tls(connection);
    if (tls)
        set_tls(mysql, connection);

    const bool socket = is_socket(connection);
    const char *host = socket ? "localhost" : connection.host.empty() ? "127.0.0.1" : connection.host.c_str();
    const std::string doing =
        "connecting to the old side at " + (socket ? connection.host : host + (":" + std::to_string(connection.port)));
    // A network "localhost" would silently become the default socket of this machine; a port was asked for.
    const unsigned protocol = socket ? MYSQL_PROTOCOL_SOCKET : MYSQL_PROTOCOL_TCP;
    set_option(mysql, MYSQL_OPT_PROTOCOL, &protocol);
    if (mysql_real_connect(mysql, host, connection.username.c_str(), connection.password.c_str(), connection.database.c_str(),
                           connection.port, socket ? connection.host.c_str() : nullptr, CLIENT_FOUND_ROWS) == nullptr)
        fail(doing);
    if (tls && mysql_get_ssl_cipher(mysql) == nullptr)
        throw core::Error(core::Side::old_side, "08001", doing + ": the server does not offer TLS", false,
                          "Enable TLS on the old server, or choose clear text explicitly with tls => 'disable'.");
    for (const std::string &setting : session_settings())
        execute(setting, doing);
}

void Client::fail(const std::string &doing) {
    throw_error(mysql_errno(handle_.get()), mysql_sqlstate(handle_.get()), mysql_error(handle_.get()), doing);
}

std::uint64_t Client::execute(const std::string &sql, const std::string &doing) {
    MYSQL *mysql = handle_.get();
    if (mysql_real_query(mysql, sql.data(), sql.size()) != 0)
        fail(doing);
    if (mysql_field_count(mysql) > 0) {
        MYSQL_RES *result = mysql_store_result(mysql);
        if (result == nullptr)
            fail(doing);
        mysql_free_result(result);
        return 0;
    }
    return mysql_affected_rows(mysql);
}

std::vector<std::vector<std::string>> Client::rows(const std::string &sql, const std::string &doing) {
    MYSQL *mysql = handle_.get();
    if (mysql_real_query(mysql, sql.data(), sql.size()) != 0)
        fail(doing);
    const std::unique_ptr<MYSQL_RES, decltype(&mysql_free_result)> result(mysql_store_result(mysql), &mysql_free_result);
    if (!result)
        fail(doing);
    std::vector<std::vector<std::string>> all;
    while (MYSQL_ROW row = mysql_fetch_row(result.get())) {
        const unsigned long *lengths = mysql_fetch_lengths(result.get());
        std::vector<std::string> &values = all.emplace_back();
        for (unsigned i = 0; i < mysql_num_fields(result.get()); ++i)
            values.push_back(row[i] == nullptr ? std::string() : std::string(row[i], lengths[i]));
    }
    return all;
}

std::vector<std::string> Client::one_row(const std::string &sql, const std::string &doing) {
    auto all = rows(sql, doing);
    return all.empty() ? std::vector<std::string>{} : std::move(all.front());
}

double Client::replica_lag() {
    MYSQL *mysql = handle_.get();
    // The newer name is unknown to older servers, the older one to newer servers.
    if (mysql_query(mysql, "SHOW SLAVE STATUS") != 0 && (mysql_errno(mysql) != 1064 || mysql_query(mysql, "SHOW REPLICA STATUS") != 0))
        fail("reading the state of replication");
    const std::unique_ptr<MYSQL_RES, decltype(&mysql_free_result)> result(mysql_store_result(mysql), &mysql_free_result);
    if (!result)
        fail("reading the state of replication");
    double lag = 0;
    while (MYSQL_ROW row = mysql_fetch_row(result.get())) {
        for (unsigned i = 0; i < mysql_num_fields(result.get()); ++i) {
            const std::string_view name = mysql_fetch_field_direct(result.get(), i)->name;
            if (name != "Seconds_Behind_Master" && name != "Seconds_Behind_Source")
                continue;
            if (row[i] == nullptr)
                return -1;
            lag = std::max(lag, std::strtod(row[i], nullptr));
        }
    }
    return lag;
}

std::string force_key_index(Client &client, const std::string &database, const core::TableConfig &table) {
    std::vector<std::string> names;
    for (const std::string &name : table.key_columns)
        names.push_back(quote_text(name));
    const std::string columns = join(names, ", ");
    const auto row = client.one_row("SELECT index_name FROM information_schema.statistics"
                                    " WHERE table_schema = " +
                                        quote_text(database) + " AND table_name = " + quote_text(table.name) +
                                        " AND non_unique = 0"
                                        " GROUP BY index_name"
                                        " HAVING GROUP_CONCAT(column_name ORDER BY seq_in_index SEPARATOR '\\n') = CONCAT_WS('\\n', " +
                                        columns +
                                        ")"
                                        " ORDER BY index_name = 'PRIMARY' DESC LIMIT 1",
                                    "looking up the key of table \"" + table.name + "\"");
    return row.empty() ? std::string() : " FORCE INDEX (" + quote_name(row[0]) + ")";
}

} // namespace tandem::mysql
