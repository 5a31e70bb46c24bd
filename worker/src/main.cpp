// tandem-sync: the worker of pg_tandem. See docs/tandem-sync.md.
#include "commands/commands.hpp"
#include "core/error.hpp"
#include "options.hpp"

#include <iostream>
#include <unistd.h>

namespace {

int fail(const std::string &message, const std::string &hint, int code) {
    std::cerr << "tandem-sync: " << message << "\n";
    if (!hint.empty())
        std::cerr << "HINT: " << hint << "\n";
    return code;
}

} // namespace

int main(int argc, char **argv) {
    using namespace tandem;
    try {
        const Options options = parse_options(std::vector<std::string>(argv + 1, argv + argc), tandem_environment(environ));
        log::configure(options.log_level, options.log_format);
        switch (options.command) {
        case Command::help:
            std::cout << options.help;
            return 0;
        case Command::version:
            std::cout << "tandem-sync " << TANDEM_VERSION << "\n";
            return 0;
        case Command::run:
            return commands::run(options);
        case Command::check:
            return commands::check(options);
        case Command::status:
            return commands::status(options);
        case Command::cutover:
        case Command::rehearse:
        case Command::rollback:
            return commands::cutover(options);
        }
        return 2;
    } catch (const UsageError &error) {
        return fail(error.what(), error.hint(), 2);
    } catch (const core::Error &error) {
        return fail(error.what(), error.hint(), 1);
    } catch (const std::exception &error) {
        return fail(error.what(), {}, 1);
    }
}
