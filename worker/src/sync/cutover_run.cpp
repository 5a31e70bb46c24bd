#include "sync/cutover_run.hpp"

#include "core/error.hpp"

#include <algorithm>
#include <cmath>

namespace tandem::sync {

using nlohmann::json;

namespace {

double ms_since(Clock::time_point start) { return std::chrono::duration<double, std::milli>(Clock::now() - start).count(); }

std::string text(const json &value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

} // namespace

std::optional<CutoverRun> CutoverRun::next(postgres::WorkerApi &api, int source_id, std::int64_t epoch) {
    const auto result = api.session().query("SELECT tandem.cutover_next($1, $2)", {std::to_string(source_id), std::to_string(epoch)});
    if (result.is_null(0, 0))
        return std::nullopt;
    const json asked = json::parse(result.text(0, 0));
    CutoverRun run;
    run.id = asked.at("run_id").get<std::int64_t>();
    run.kind = asked.at("kind").get<std::string>();
    run.table_ids = asked.at("table_ids").get<std::vector<int>>();
    const json &options = asked.at("options");
    run.max_pause = Millis(options.value("max_pause_ms", 1000));
    run.lock_wait = Millis(options.value("lock_wait_ms", 30000));
    run.kill = options.value("kill", std::vector<std::string>());
    if (const auto waived = options.find("waive"); waived != options.end() && waived->is_object()) {
        run.verifies = !waived->contains("verify");
        run.takes_old_tables = waived->contains("old_table");
    }
    if (asked.at("moved_to").is_object())
        for (const auto &[id, where] : asked.at("moved_to").items())
            run.moved_to[std::stoi(id)] = where.get<std::string>();
    return run;
}

void CutoverRun::probe(postgres::WorkerApi &api) const { api.session().query("SELECT tandem.cutover_probe($1)", {std::to_string(id)}); }

void CutoverRun::begin(postgres::WorkerApi &api, Millis lock_timeout) {
    attempt =
        api.session().query("SELECT tandem.cutover_begin($1, $2)", {std::to_string(id), std::to_string(lock_timeout.count())}).number(0, 0);
}

std::string CutoverRun::obstacle(postgres::WorkerApi &api) const {
    return api.session().query("SELECT tandem.cutover_obstacle($1)", {std::to_string(id)}).text(0, 0);
}

std::int64_t CutoverRun::queued(postgres::WorkerApi &api) const {
    return api.session().query("SELECT tandem.cutover_queued($1)", {std::to_string(id)}).number(0, 0);
}

void CutoverRun::commit(postgres::WorkerApi &api, const json &auto_increments, Millis lock_timeout) {
    api.session().query("SELECT tandem.cutover_commit($1, $2, $3)",
                        {std::to_string(id), text(auto_increments), std::to_string(lock_timeout.count())});
}

bool CutoverRun::abort(postgres::WorkerApi &api) const {
    return api.session().query("SELECT tandem.cutover_abort($1)", {std::to_string(id)}).boolean(0, 0);
}

void CutoverRun::contract(postgres::WorkerApi &api, Millis lock_timeout) const {
    api.session().query("SELECT tandem.cutover_contract($1, $2)", {std::to_string(id), std::to_string(lock_timeout.count())});
}

void CutoverRun::end(postgres::WorkerApi &api, const json &error) {
    write_steps(api);
    api.session().query("SELECT tandem.cutover_end($1, $2, $3)",
                        {std::to_string(id), pause_ms_ < 0 ? std::nullopt : std::optional(std::to_string(pause_ms_)),
                         error.is_null() ? std::nullopt : std::optional(text(error))});
}

void CutoverRun::refuse(const std::string &sqlstate, const std::string &message, const std::string &hint) {
    throw core::Error(core::Side::worker, sqlstate, message, false, hint);
}

void CutoverRun::step(const std::string &name, const std::string &detail) {
    steps_.push_back({name, detail, ms_since(last_)});
    last_ = Clock::now();
}

void CutoverRun::write_steps(postgres::WorkerApi &api) {
    for (const Step &step : std::exchange(steps_, {}))
        api.session().query(
            "SELECT tandem.cutover_step($1, $2, $3, $4)",
            {std::to_string(id), step.name, std::to_string(step.ms), step.detail.empty() ? std::nullopt : std::optional(step.detail)});
}

void CutoverRun::pause_ends() { pause_ms_ = ms_since(paused_at_); }

Millis CutoverRun::left(double share) const {
    const auto whole = std::chrono::duration<double, std::milli>(max_pause).count() * share;
    return Millis(std::max<std::int64_t>(1, std::llround(whole - ms_since(paused_at_))));
}

} // namespace tandem::sync
