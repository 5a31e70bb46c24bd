#include "mysql/control_client.hpp"

#include "core/error.hpp"
#include "mysql/client.hpp"
#include "mysql/errors.hpp"
#include "mysql/tls.hpp"

#include <cppconn/driver.h>
#include <cppconn/exception.h>
#include <cppconn/resultset.h>
#include <cppconn/resultset_metadata.h>
#include <cppconn/statement.h>
#include <mutex>
#include <mysql_driver.h>

namespace tandem::mysql {
namespace {

[[noreturn]] void rethrow(const sql::SQLException &error, const std::string &doing) {
    // getSQLState is not const-correct in this connector; a copy is.
    sql::SQLException copy(error);
    throw_error(static_cast<unsigned>(copy.getErrorCode()), copy.getSQLState(), copy.what(), doing);
}

sql::ConnectOptionsMap options_of(const core::SourceConnection &connection) {
    sql::ConnectOptionsMap options;
    const std::string host = connection.host.empty() ? "127.0.0.1" : connection.host;
    // "localhost" with tcp:// would be taken as the default socket; the address says what is meant.
    options["hostName"] = is_socket(connection)
                              ? "unix://" + host
                              : "tcp://" + (host == "localhost" ? "127.0.0.1" : host) + ":" + std::to_string(connection.port);
    options["userName"] = connection.username;
    options["password"] = connection.password;
    options["schema"] = connection.database;
    options["OPT_CHARSET_NAME"] = "utf8mb4";
    options["OPT_CONNECT_TIMEOUT"] = 10;
    options["OPT_READ_TIMEOUT"] = 600; // DDL on a large outbox, bounded by lock_wait_timeout where it waits for others
    options["OPT_WRITE_TIMEOUT"] = 60;
    options["OPT_RECONNECT"] = false;
    if (wants_tls(connection)) {
        options["sslEnforce"] = true;
        options["sslVerify"] = true;
        const std::pair<const char *, const std::string *> files[] = {{"sslCA", &connection.ssl_ca},
                                                                      {"sslCAPath", &connection.ssl_capath},
                                                                      {"sslCert", &connection.ssl_cert},
                                                                      {"sslKey", &connection.ssl_key},
                                                                      {"sslCipher", &connection.ssl_cipher}};
        for (const auto &[name, value] : files)
            if (!value->empty())
                options[name] = *value;
    }
    return options;
}

// The connector is not safe against threads that connect at the same time: its driver is in an unprotected static map, and so is what it
// knows of options. One after the other, then.
std::unique_ptr<sql::Connection> connect(sql::ConnectOptionsMap &options) {
    static std::mutex mutex;
    const std::lock_guard<std::mutex> guard(mutex);
    initialize_library();
    return std::unique_ptr<sql::Connection>(sql::mysql::get_driver_instance()->connect(options));
}

} // namespace

ControlClient::ControlClient(const core::SourceConnection &connection) {
    const std::string doing = "connecting to the old side at " + connection.host + ":" + std::to_string(connection.port);
    try {
        auto options = options_of(connection);
        connection_ = connect(options);
    } catch (const sql::SQLException &error) {
        rethrow(error, doing);
    }
    if (wants_tls(connection) && status("Ssl_cipher").empty())
        throw core::Error(core::Side::old_side, "08001", doing + ": the server does not offer TLS", false,
                          "Enable TLS on the old server, or choose clear text explicitly with tls => 'disable'.");
    for (const std::string &setting : session_settings())
        execute(setting, doing);
}

void ControlClient::execute(const std::string &sql, const std::string &doing) {
    try {
        const std::unique_ptr<sql::Statement> statement(connection_->createStatement());
        statement->execute(sql);
    } catch (const sql::SQLException &error) {
        rethrow(error, doing);
    }
}

std::vector<ControlRow> ControlClient::query(const std::string &sql, const std::string &doing) {
    try {
        const std::unique_ptr<sql::Statement> statement(connection_->createStatement());
        const std::unique_ptr<sql::ResultSet> result(statement->executeQuery(sql));
        const unsigned columns = result->getMetaData()->getColumnCount();
        std::vector<ControlRow> rows;
        while (result->next()) {
            ControlRow row;
            for (unsigned i = 1; i <= columns; ++i) {
                const sql::SQLString value = result->getString(i);
                row.push_back(result->wasNull() ? std::nullopt : std::optional(value.asStdString()));
            }
            rows.push_back(std::move(row));
        }
        return rows;
    } catch (const sql::SQLException &error) {
        rethrow(error, doing);
    }
}

std::string ControlClient::variable(const std::string &name) {
    const auto rows = query("SHOW SESSION VARIABLES LIKE '" + name + "'", "reading settings of the old side");
    return rows.empty() ? std::string() : rows[0][1].value_or("");
}

std::string ControlClient::status(const std::string &name) {
    const auto rows = query("SHOW SESSION STATUS LIKE '" + name + "'", "reading the status of the old side");
    return rows.empty() ? std::string() : rows[0][1].value_or("");
}

unsigned ControlClient::probe(const std::string &sql, std::string &message) {
    try {
        const std::unique_ptr<sql::Statement> statement(connection_->createStatement());
        if (statement->execute(sql)) // a result must be taken, or the connection is out of sync
            const std::unique_ptr<sql::ResultSet> result(statement->getResultSet());
        return 0;
    } catch (const sql::SQLException &error) {
        if (classify(static_cast<unsigned>(error.getErrorCode())) == ErrorClass::session_lost)
            rethrow(error, "trying a privilege");
        message = error.what();
        return static_cast<unsigned>(error.getErrorCode());
    }
}

} // namespace tandem::mysql
