#include "mysql/errors.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <iterator>

namespace tandem::mysql {
namespace {

// Client errors 2xxx are of the connector, the others of the server.
constexpr unsigned lost[] = {
    1053, // server shutdown in progress
    1079, // aborting connection
    1152, // aborted connection
    1153, // packet larger than max_allowed_packet: the server closes the connection
    1158, // network: read error
    1159, // network: read timeout
    1160, // network: write error
    1161, // network: write timeout
    1184, // aborted connection to database
    1927, // connection was killed (MariaDB)
    2006, // server has gone away
    2013, // lost connection during query
    2014, // commands out of sync: the protocol state is unknown
    2027, // malformed packet
    2055, // lost connection at …
    4031, // disconnected because of inactivity (MySQL 8)
};

constexpr unsigned again[] = {
    1020, // record changed since last read (MariaDB snapshot isolation)
    1040, // too many connections
    1203, // too many connections of this user
    1205, // lock wait timeout
    1213, // deadlock
    1226, // resource limit of the user
    1290, // --read-only: a fail-over may be under way
    1317, // query interrupted
    1412, // table definition changed after the snapshot
    1613, // XA_RBTIMEOUT
    1614, // XA_RBDEADLOCK
    1615, // prepared statement needs re-prepare
    1637, // too many active transactions
    1836, // read-only mode
    1969, // statement time limit (MariaDB)
    2002, // cannot connect through socket
    2003, // cannot connect to host
    2005, // unknown host: a name server may be back later
    3024, // statement time limit (MySQL)
};

constexpr unsigned denied[] = {1044, 1045, 1142, 1143, 1227, 1370, 1698};

template <std::size_t N> bool contains(const unsigned (&codes)[N], unsigned code) {
    return std::find(std::begin(codes), std::end(codes), code) != std::end(codes);
}

std::string postgres_state(unsigned code, const std::string &sqlstate) {
    if (contains(denied, code))
        return code == 1045 || code == 1698 ? "28000" : "42501";
    switch (code) {
    case 1049:
        return "3D000";
    case 1054:
        return "42703";
    case 1146:
    case 1051:
        return "42P01";
    case 1205:
        return "55P03";
    case 1213:
        return "40P01";
    case 2026:
        return "08001";
    default:
        break;
    }
    if (code >= 2000 && code < 3000)
        return "08001";
    // HY000 says nothing; a real SQLSTATE of the server is kept.
    return sqlstate.size() == 5 && sqlstate != "HY000" && sqlstate != "00000" ? sqlstate : "HV000";
}

const char *hint_for(unsigned code) {
    if (contains(denied, code))
        return "\"tandem-sync check\" prints the GRANT statements that are needed.";
    switch (code) {
    case 1049:
        return "Check the name of the database in tandem.add_source.";
    case 1205:
        return "A transaction on the old side holds the table or row; it is tried again.";
    case 1419:
        return "Binary logging is on: set global log_bin_trust_function_creators = 1, or give the user SUPER while triggers are created.";
    case 2026:
        return "Check ssl_ca and the certificate of the old server; tls => 'disable' chooses clear text explicitly.";
    default:
        return "";
    }
}

} // namespace

ErrorClass classify(unsigned native_code) {
    if (contains(lost, native_code))
        return ErrorClass::session_lost;
    return contains(again, native_code) ? ErrorClass::retryable : ErrorClass::final;
}

void throw_error(unsigned native_code, const std::string &sqlstate, const std::string &message, const std::string &doing) {
    const std::string text = doing + ": " + message + " (old side error " + std::to_string(native_code) + ")";
    const ErrorClass kind = classify(native_code);
    if (kind == ErrorClass::session_lost) {
        core::SessionLost error(core::Side::old_side, text);
        error.native_code = static_cast<int>(native_code);
        throw error;
    }
    core::Error error(core::Side::old_side, postgres_state(native_code, sqlstate), text, kind == ErrorClass::retryable,
                      hint_for(native_code));
    error.native_code = static_cast<int>(native_code);
    throw error;
}

bool is_value_error(int code) {
    return code == 1264 || code == 1265 || code == 1292 || code == 1366 || code == 1406 || code == 1411 || code == 1300;
}

bool is_duplicate(int code) { return code == 1062 || code == 1586; }

bool is_row_error(const core::Error &error) {
    const std::string &state = error.sqlstate();
    return error.side() == core::Side::old_side && !error.retryable() && state.substr(0, 2) != "42" && state != "28000";
}

} // namespace tandem::mysql
