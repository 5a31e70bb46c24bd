// One connection to PostgreSQL and its results: RAII over libpq. This folder is the only place with libpq.
//
// The session never reconnects: a lost connection throws core::SessionLost and the object is dead. Waiting for the server is done with
// poll(), so that a session whose server is silent (cut network, stopped process) can be given up: `abandon` is asked every 200 ms.
// Not thread-safe: one owner thread.
#pragma once

#include "core/error.hpp"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

struct pg_conn;
struct pg_result;

namespace tandem::postgres {

class Result {
  public:
    explicit Result(pg_result *result) : result_(result) {}
    Result(Result &&) noexcept = default;
    Result &operator=(Result &&) noexcept = default;
    ~Result();

    int rows() const;
    int columns() const;
    std::string column_name(int column) const;
    bool is_null(int row, int column) const;
    std::string text(int row, int column) const; // "" for NULL
    std::int64_t number(int row, int column) const;
    bool boolean(int row, int column) const;
    std::int64_t int8(int row, int column) const; // of a binary result

  private:
    friend class Session;
    struct Clear {
        void operator()(pg_result *result) const;
    };
    std::unique_ptr<pg_result, Clear> result_;
};

using Parameter = std::optional<std::string>; // text form; nullopt is NULL
using Abandon = std::function<bool()>;        // true: stop waiting for the server and treat the session as lost

class Session {
  public:
    Session(const std::string &conninfo, const std::string &application_name, Abandon abandon = {});
    ~Session();
    Session(const Session &) = delete;
    Session &operator=(const Session &) = delete;

    Result query(const std::string &sql, const std::vector<Parameter> &parameters = {});
    // Statements without parameters, several at once. Returns the last result.
    Result run(const std::string &sql);

    // The same in two halves, for a call whose last parameter is a block of bytes: send it, do something else, take the result.
    void send_bytes(const std::string &sql, const std::vector<Parameter> &parameters, std::string_view bytes);
    Result take_result() { return finish_results(); }

    // With `binary`, values come in the send format of their types: Result::text gives the bytes, Result::int8 a bigint.
    void send(const std::string &sql, const std::vector<Parameter> &parameters, bool binary = false);

    // COPY … FROM STDIN: `sql` may have statements before it. Then any number of copy_data, then one of the two ends.
    void copy_begin(const std::string &sql);
    void copy_data(std::string_view bytes);
    void copy_end();
    void copy_abort(const std::string &why); // the server drops what was copied; the transaction is failed

    // Notices go to the log, unless somebody wants them.
    void on_notice(std::function<void(const std::string &)> sink);
    int server_version() const;

  private:
    struct Finish {
        void operator()(pg_conn *connection) const;
    };
    [[noreturn]] void lost(const std::string &what);
    void wait(bool for_write);
    void flush();
    Result finish_results();
    void check(const Result &result);

    std::unique_ptr<pg_conn, Finish> connection_;
    Abandon abandon_;
    std::function<void(const std::string &)> notice_sink_;
};

// True when the connection string itself holds a password (key = value or URI form). Throws core::Error for one that cannot be read;
// that message never repeats the string.
bool conninfo_has_password(const std::string &conninfo);

} // namespace tandem::postgres
