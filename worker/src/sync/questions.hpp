// Answers questions that SQL functions ask of the old side (docs/protocol.md section 9): one thread, one PostgreSQL session, a short-lived
// control session on the old side for each question. Several may run: each question is taken by one. An error becomes the error of the function that asked.
#pragma once

#include "postgres/worker_api.hpp"
#include "sync/stop.hpp"

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

namespace tandem::sync {

class QuestionServer {
  public:
    QuestionServer(std::string conninfo, std::string holder, const Stop &stop);
    ~QuestionServer();
    QuestionServer(const QuestionServer &) = delete;
    QuestionServer &operator=(const QuestionServer &) = delete;

    bool busy() const { return busy_; } // with a question that takes long

  private:
    void run();
    void answer(postgres::WorkerApi &api, const postgres::Question &question);
    void take_census(postgres::WorkerApi &api, const postgres::Question &question);
    void reconcile(postgres::WorkerApi &api, const postgres::Question &question);

    const std::string conninfo_;
    const std::string holder_;
    const Stop &stop_;
    std::atomic<bool> busy_{false};
    std::thread thread_;
};

// As many servers as it takes for one of them to be free: a census or a reconciliation keeps its server busy for long.
class QuestionServers {
  public:
    QuestionServers(std::string conninfo, std::string holder, const Stop &stop);
    void keep_one_free(); // to be called often

    static constexpr std::size_t least = 2, most = 10;

  private:
    const std::string conninfo_;
    const std::string holder_;
    const Stop &stop_;
    std::vector<std::unique_ptr<QuestionServer>> servers_;
};

} // namespace tandem::sync
