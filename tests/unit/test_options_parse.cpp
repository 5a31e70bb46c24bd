// Command line, environment, configuration file: precedence and refusals. And the log's two formats.
#include "options.hpp"

#include <cstdio>
#include <fstream>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

using namespace tandem;

namespace {

// A configuration file that is gone at the end of the test.
class File {
  public:
    File(const std::string &content, mode_t mode) : path_(testing::TempDir() + "tandem-options-" + std::to_string(::getpid())) {
        std::ofstream(path_) << content;
        ::chmod(path_.c_str(), mode);
    }
    ~File() { std::remove(path_.c_str()); }
    File(const File &) = delete;
    File &operator=(const File &) = delete;
    const std::string &path() const { return path_; }

  private:
    std::string path_;
};

} // namespace

TEST(Options, CommandLineBeforeEnvironmentBeforeFile) {
    const File file("postgres = dbname=file\nlog-level = debug\nlog-format = json\n", 0644);
    const Options options =
        parse_options({"run", "--postgres", "dbname=argument", "--config", file.path()},
                      {{"TANDEM_POSTGRES", "dbname=environment"}, {"TANDEM_LOG_LEVEL", "warning"}, {"TANDEM_FAILPOINT", "x"}});
    EXPECT_EQ(options.command, Command::run);
    EXPECT_EQ(options.postgres, "dbname=argument");
    EXPECT_EQ(options.log_level, log::Level::warning);
    EXPECT_EQ(options.log_format, log::Format::json);
    EXPECT_EQ(parse_options({"status", "--config", file.path()}, {}).postgres, "dbname=file");
    EXPECT_EQ(parse_options({"status"}, {{"TANDEM_CONFIG", file.path()}}).postgres, "dbname=file");
}

TEST(Options, NoPasswordInArguments) {
    EXPECT_THROW(parse_options({"run", "--postgres", "dbname=x password=secret"}, {}), UsageError);
    EXPECT_THROW(parse_options({"run", "--postgres", "postgresql://u:secret@h/x"}, {}), UsageError);
    EXPECT_THROW(parse_options({"run", "--postgres", "host=h dbname"}, {}), UsageError);
    EXPECT_NO_THROW(parse_options({"run", "--postgres", "postgresql://u@h/x"}, {}));
    EXPECT_EQ(parse_options({"run"}, {{"TANDEM_POSTGRES", "password=secret"}}).postgres, "password=secret");
    try {
        parse_options({"run", "--postgres", "password=secret"}, {});
    } catch (const UsageError &error) {
        EXPECT_EQ((std::string(error.what()) + error.hint()).find("secret"), std::string::npos);
    }
}

TEST(Options, AFileWithAPasswordIsForItsOwnerOnly) {
    const File open("postgres = dbname=x password=secret\n", 0644);
    EXPECT_THROW(parse_options({"run", "--config", open.path()}, {}), UsageError);
    ::chmod(open.path().c_str(), 0600);
    EXPECT_EQ(parse_options({"run", "--config", open.path()}, {}).postgres, "dbname=x password=secret");
}

TEST(Options, Refusals) {
    EXPECT_THROW(parse_options({}, {}), UsageError);
    EXPECT_THROW(parse_options({"fly"}, {}), UsageError);
    EXPECT_THROW(parse_options({"run", "--wings"}, {}), UsageError);
    EXPECT_THROW(parse_options({"run", "extra"}, {}), UsageError);
    EXPECT_THROW(parse_options({"run", "--log-level", "loud"}, {}), UsageError);
    EXPECT_THROW(parse_options({"check", "--server", "old"}, {}), UsageError);
    EXPECT_THROW(parse_options({"run", "--config", "/nonexistent/file"}, {}), UsageError);
}

TEST(Options, HelpForEach) {
    EXPECT_EQ(parse_options({"--help"}, {}).command, Command::help);
    for (const char *name : {"run", "check", "status", "version"}) {
        const Options options = parse_options({name, "--help"}, {});
        EXPECT_EQ(options.command, Command::help);
        EXPECT_NE(options.help.find(name), std::string::npos);
    }
    EXPECT_EQ(parse_options({"--version"}, {}).command, Command::version);
}

TEST(Log, Lines) {
    EXPECT_EQ(log::format_line(log::Format::logfmt, "T", log::Level::info, "two words", {{"n", 3}, {"text", "a \"b\"\n"}, {"none", ""}}),
              "time=T level=info msg=\"two words\" n=3 text=\"a \\\"b\\\"\\n\" none=\"\"\n");
    EXPECT_EQ(log::format_line(log::Format::json, "T", log::Level::error, "m", {{"bad", "\xff"}}),
              "{\"time\":\"T\",\"level\":\"error\",\"msg\":\"m\",\"bad\":\"\xef\xbf\xbd\"}\n");
}
