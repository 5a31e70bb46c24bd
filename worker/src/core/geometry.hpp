// Spatial values between the form in which the old side stores them (four bytes of SRID, then WKB) and EWKB, which is WKB as long as there is
// no SRID, and which PostGIS reads. Both hold the same. Pure.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace tandem::core {

bool is_spatial(std::string_view data_type);

// nullopt: not a value of that form.
std::optional<std::string> ewkb_of_stored(std::string_view stored);
std::optional<std::string> stored_of_ewkb(std::string_view ewkb);

} // namespace tandem::core
