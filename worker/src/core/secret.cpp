#include "core/secret.hpp"

#include "core/error.hpp"

#include <array>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace tandem::core {
namespace {

class Descriptor {
  public:
    explicit Descriptor(int fd) : fd_(fd) {}
    ~Descriptor() {
        if (fd_ >= 0)
            ::close(fd_);
    }
    Descriptor(const Descriptor &) = delete;
    Descriptor &operator=(const Descriptor &) = delete;
    int get() const { return fd_; }

  private:
    int fd_;
};

std::string read_file(const std::string &path) {
    const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    struct stat info {};
    if (file.get() < 0 || ::fstat(file.get(), &info) != 0)
        throw Error(Side::worker, "58030", "password file \"" + path + "\" cannot be read: " + std::strerror(errno), false);
    if (!S_ISREG(info.st_mode))
        throw Error(Side::worker, "58030", "password file \"" + path + "\" is not a regular file", false);
    // Checked on the open file, so nobody can swap it in between.
    if ((info.st_mode & 077) != 0 || (info.st_uid != ::geteuid() && info.st_uid != 0))
        throw Error(Side::worker, "28000", "password file \"" + path + "\" can be read by others", false,
                    "It must belong to the user of tandem-sync or to root: chmod 0600 it.");
    std::string content;
    std::array<char, 4096> buffer;
    for (;;) {
        const ssize_t got = ::read(file.get(), buffer.data(), buffer.size());
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            throw Error(Side::worker, "58030", "password file \"" + path + "\" cannot be read: " + std::strerror(errno), false);
        if (got == 0)
            break;
        content.append(buffer.data(), static_cast<std::size_t>(got));
        if (content.size() > 65536)
            throw Error(Side::worker, "58030", "password file \"" + path + "\" is longer than 64 kB", false);
    }
    if (!content.empty() && content.back() == '\n')
        content.pop_back();
    if (!content.empty() && content.back() == '\r')
        content.pop_back();
    return content;
}

} // namespace

std::string resolve_password(const std::string &reference) {
    if (reference.rfind("file:/", 0) == 0)
        return read_file(reference.substr(5));
    if (reference.rfind("env:", 0) == 0) {
        const std::string name = reference.substr(4);
        const char *value = std::getenv(name.c_str());
        if (value == nullptr)
            throw Error(Side::worker, "28000", "environment variable " + name + ", which holds the password, is not set for tandem-sync",
                        false);
        return value;
    }
    throw Error(Side::worker, "22023", "password reference must be file:/path or env:NAME", false);
}

} // namespace tandem::core
