// Bytes as hexadecimal text, as PostgreSQL's encode(…, 'hex') writes them.
#pragma once

#include <string>
#include <string_view>

namespace tandem::core {

std::string hex(std::string_view bytes);
std::string unhex(std::string_view text); // text of an even number of digits

} // namespace tandem::core
