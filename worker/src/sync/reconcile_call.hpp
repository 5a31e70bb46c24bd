// Question "reconcile" (docs/protocol.md section 14): one pass while somebody waits for it.
#pragma once

#include "postgres/worker_api.hpp"
#include "sync/stop.hpp"

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

namespace tandem::sync {

// Takes a row of the answer; false when nobody waits any more, which ends the pass.
using CallSink = std::function<bool(const nlohmann::json &row)>;

// `api`: a session to look the table up with. The pass has sessions of its own.
void reconcile_for_call(postgres::WorkerApi &api, const std::string &conninfo, const std::string &holder, const nlohmann::json &question,
                        const Stop &stop, const CallSink &tell);

} // namespace tandem::sync
