// Questions that functions ask of the old side (docs/protocol.md section 9): the asking side and the answering side.
#pragma once

#include "pg/postgres.hpp"

namespace tandem {

void register_session(const char *worker);    // tandem.worker_hello: this session may answer questions
void ask(FunctionCallInfo fcinfo);            // set-returning: rows of the answer
void next_question(FunctionCallInfo fcinfo);  // set-returning: one question or none
bool question_live(std::int64_t question_id); // somebody still waits for its answer

} // namespace tandem
