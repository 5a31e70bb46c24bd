#include "sync/questions.hpp"

#include "core/backoff.hpp"
#include "core/error.hpp"
#include "core/secret.hpp"
#include "log.hpp"
#include "mysql/census.hpp"
#include "mysql/control_session.hpp"
#include "mysql/old_state.hpp"
#include "mysql/old_tables.hpp"
#include "sync/failpoint.hpp"
#include "sync/reconcile_call.hpp"

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>

namespace tandem::sync {

using core::Error;
using nlohmann::json;

namespace {

std::string text_of(const json &object, const char *name) {
    const auto found = object.find(name);
    return found == object.end() || found->is_null() ? std::string() : found->get<std::string>();
}

// The functions send the connection themselves, as a source added in the same transaction cannot be seen from here.
core::SourceConnection connection_for(postgres::WorkerApi &api, const json &question) {
    if (question.contains("server") && !question["server"].is_null()) {
        core::SourceConnection connection = api.server(question.at("server").get<std::string>(), question.at("database").get<std::string>(),
                                                       text_of(question, "mapping_role"));
        if (const std::string metadata = text_of(question, "metadata_database"); !metadata.empty())
            connection.metadata_database = metadata;
        if (const std::string tls = text_of(question, "tls"); !tls.empty())
            connection.tls = tls;
        if (const std::string reference = text_of(question, "password_ref"); !reference.empty())
            connection.password = core::resolve_password(reference);
        return connection;
    }
    const int source_id = question.at("source_id").get<int>();
    for (const postgres::SourceRow &row : api.sources())
        if (row.connection.source_id == source_id)
            return row.connection;
    throw Error(core::Side::new_side, "42704", "source " + std::to_string(source_id) + " does not exist or cannot be used", false);
}

json old_tables(postgres::WorkerApi &api, const json &question) {
    const auto wanted = question.at("table_ids").get<std::vector<int>>();
    const std::vector<core::TableConfig> all = api.tables(question.at("source_id").get<int>());
    std::vector<const core::TableConfig *> tables;
    for (const core::TableConfig &table : all)
        if (std::ranges::find(wanted, table.table_id) != wanted.end())
            tables.push_back(&table);
    return mysql::OldTables(connection_for(api, question), tables).look();
}

json error_json(const Error &error) {
    json object = {{"sqlstate", error.sqlstate().size() == 5 ? error.sqlstate() : "XX000"}, {"message", error.what()}};
    if (error.side() == core::Side::old_side && error.native_code != 0)
        object["detail"] = "The old side's error number is " + std::to_string(error.native_code) + ".";
    if (!error.hint().empty())
        object["hint"] = error.hint();
    return object;
}

} // namespace

QuestionServer::QuestionServer(std::string conninfo, std::string holder, const Stop &stop)
    : conninfo_(std::move(conninfo)), holder_(std::move(holder)), stop_(stop), thread_([this] { run(); }) {}

QuestionServer::~QuestionServer() { thread_.join(); }

// Takes as long as the table is large; the other servers answer the other questions meanwhile.
void QuestionServer::take_census(postgres::WorkerApi &api, const postgres::Question &question) {
    static std::atomic<bool> taking{false};
    if (taking.exchange(true))
        throw Error(core::Side::worker, "55006", "another census is being taken", true,
                    "Each census reads a whole table of the old side; wait for it.");
    const struct Release {
        ~Release() { taking = false; }
    } release;
    int seq = 0;
    bool wanted = true;
    mysql::take_census(connection_for(api, question.question), question.question, [&](const json &row) {
        wanted = !stop_.requested() && api.answer(question.question_id, seq++, row, false);
        return wanted;
    });
    if (stop_.requested())
        throw Error(core::Side::worker, "57P01", "tandem-sync is being stopped", true);
    if (wanted)
        api.answer(question.question_id, seq, nullptr, true);
}

// The pass has sessions of its own; this one carries its rows to whoever waits.
void QuestionServer::reconcile(postgres::WorkerApi &api, const postgres::Question &question) {
    int seq = 0;
    bool wanted = true;
    reconcile_for_call(api, conninfo_, holder_, question.question, stop_, [&](const json &row) {
        wanted = api.answer(question.question_id, seq++, row, false);
        return wanted;
    });
    if (wanted)
        api.answer(question.question_id, seq, nullptr, true);
}

void QuestionServer::answer(postgres::WorkerApi &api, const postgres::Question &question) {
    const std::string kind = text_of(question.question, "kind");
    try {
        failpoint("question:before_answer");
        if (kind == "census" || kind == "reconcile") {
            const struct Busy {
                std::atomic<bool> &flag;
                ~Busy() { flag = false; }
            } busy{busy_};
            busy_ = true;
            if (kind == "census")
                take_census(api, question);
            else
                reconcile(api, question);
            return;
        }
        std::vector<json> rows;
        if (kind == "ping") {
            rows.push_back(json::object());
        } else if (kind == "connect") {
            mysql::ControlSession session(connection_for(api, question.question));
            rows.push_back(session.server_facts());
        } else if (kind == "old_state") {
            rows.push_back(mysql::old_state(connection_for(api, question.question), question.question));
        } else if (kind == "old_tables") {
            rows.push_back(old_tables(api, question.question));
        } else if (kind == "describe") {
            mysql::ControlSession session(connection_for(api, question.question));
            rows = session.describe(question.question.value("tables", std::vector<std::string>{}), text_of(question.question, "pattern"));
        } else {
            throw Error(core::Side::worker, "0A000", "tandem-sync does not know how to answer \"" + kind + "\"", false);
        }
        int seq = 0;
        for (const json &row : rows) {
            const bool last = static_cast<std::size_t>(seq) + 1 == rows.size();
            api.answer(question.question_id, seq++, row, last);
        }
        if (rows.empty())
            api.answer(question.question_id, 0, nullptr, true);
    } catch (const core::SessionLost &lost) {
        if (lost.side() == core::Side::new_side && kind != "reconcile") // which has sessions of its own
            throw;
        api.answer(question.question_id, 0, nullptr, true, error_json(lost));
    } catch (const Error &error) {
        log::info("question answered with an error", {{"kind", kind}, {"sqlstate", error.sqlstate()}, {"error", error.what()}});
        api.answer(question.question_id, 0, nullptr, true, error_json(error));
    } catch (const json::exception &error) {
        api.answer(question.question_id, 0, nullptr, true,
                   error_json(Error(core::Side::worker, "22023", std::string("question cannot be read: ") + error.what(), false)));
    }
}

void QuestionServer::run() {
    core::Backoff backoff(Millis(200), Millis(5000));
    std::unique_ptr<postgres::WorkerApi> api;
    while (!stop_.requested()) {
        try {
            if (!api) {
                // Told to stop, the session waits for the end of next_question: given up in its midst, its backend would go on waiting
                // and be handed a question that nobody answers.
                std::optional<Clock::time_point> stopping;
                api = std::make_unique<postgres::WorkerApi>(conninfo_, "questions", holder_, [this, stopping]() mutable {
                    if (stop_.requested() && !stopping)
                        stopping = Clock::now();
                    return stopping && Clock::now() - *stopping > Millis(3000);
                });
            }
            if (const auto question = api->next_question(Millis(1000)))
                answer(*api, *question);
            backoff.reset();
        } catch (const std::exception &error) {
            api.reset();
            if (stop_.requested())
                return;
            log::warning("question session lost", {{"error", error.what()}});
            stop_.wait_for(backoff.next());
        }
    }
}

QuestionServers::QuestionServers(std::string conninfo, std::string holder, const Stop &stop)
    : conninfo_(std::move(conninfo)), holder_(std::move(holder)), stop_(stop) {
    while (servers_.size() < least)
        servers_.push_back(std::make_unique<QuestionServer>(conninfo_, holder_, stop_));
}

void QuestionServers::keep_one_free() {
    if (servers_.size() < most && std::ranges::all_of(servers_, [](const auto &server) { return server->busy(); }))
        servers_.push_back(std::make_unique<QuestionServer>(conninfo_, holder_, stop_));
}

} // namespace tandem::sync
