// Answers questions that SQL functions ask of the old side (docs/protocol.md section 9): one thread, one PostgreSQL session, a short-lived
// control session on the old side for each question. Several may run: each question is taken by one. An error becomes the error of the function that asked.
#pragma once

#include "postgres/worker_api.hpp"
#include "sync/stop.hpp"

#include <string>
#include <thread>

namespace tandem::sync {

class QuestionServer {
  public:
    QuestionServer(std::string conninfo, std::string holder, const Stop &stop);
    ~QuestionServer();
    QuestionServer(const QuestionServer &) = delete;
    QuestionServer &operator=(const QuestionServer &) = delete;

  private:
    void run();
    void answer(postgres::WorkerApi &api, const postgres::Question &question);
    void take_census(postgres::WorkerApi &api, const postgres::Question &question);

    const std::string conninfo_;
    const std::string holder_;
    const Stop &stop_;
    std::thread thread_;
};

} // namespace tandem::sync
