#include "protocol/forward_spec.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace cmssh {
namespace {

using api::ForwardKind;
using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(ForwardSpec, ReadsWhereItListensAndWhereItLeads) {
    const struct {
        ForwardKind kind;
        std::string listen;
        std::optional<std::string> target;
        mux::Forward forward;
    } rows[] = {
        {ForwardKind::Local,
         "8080",
         "db:80",
         {.type = mux::ForwardType::Local, .listen = {"localhost", 8080}, .connect = {"db", 80}}},
        {ForwardKind::Local,
         "127.0.0.1:8080",
         "[2001:db8::1]:65535",
         {.type = mux::ForwardType::Local, .listen = {"127.0.0.1", 8080}, .connect = {"2001:db8::1", 65535}}},
        {ForwardKind::Local,
         "[::1]:8080",
         "/run/db.sock",
         {.type = mux::ForwardType::Local, .listen = {"::1", 8080}, .connect = {"/run/db.sock", mux::kUnixPath}}},
        {ForwardKind::Local, "*:1", "a:1", {.type = mux::ForwardType::Local, .listen = {"*", 1}, .connect = {"a", 1}}},
        {ForwardKind::Local, ":1", "a:1", {.type = mux::ForwardType::Local, .listen = {"*", 1}, .connect = {"a", 1}}},
        {ForwardKind::Local,
         "/tmp/a:b c",
         "a:1",
         {.type = mux::ForwardType::Local, .listen = {"/tmp/a:b c", mux::kUnixPath}, .connect = {"a", 1}}},
        {ForwardKind::Remote,
         "0",
         "localhost:22",
         {.type = mux::ForwardType::Remote, .listen = {"", 0}, .connect = {"localhost", 22}}},
        {ForwardKind::Remote,
         "eth0.example:9",
         "localhost:22",
         {.type = mux::ForwardType::Remote, .listen = {"eth0.example", 9}, .connect = {"localhost", 22}}},
        {ForwardKind::Remote,
         "1080",
         std::nullopt,
         {.type = mux::ForwardType::Remote, .listen = {"", 1080}, .connect = {"socks", 0}}},
        {ForwardKind::Dynamic,
         "localhost:1080",
         std::nullopt,
         {.type = mux::ForwardType::Dynamic, .listen = {"localhost", 1080}, .connect = {"socks", 0}}},
    };
    for (const auto& row : rows) {
        SCOPED_TRACE(row.listen);
        const auto forward = parse_forward(row.kind, row.listen, row.target);
        ASSERT_TRUE(forward.ok()) << forward.error().message;
        EXPECT_EQ(*forward, row.forward);
    }
}

TEST(ForwardSpec, NamesTheFieldThatIsWrong) {
    std::string too_long(108, 'a');
    too_long.front() = '/';
    const struct {
        ForwardKind kind;
        std::string listen;
        std::optional<std::string> target;
        std::string field;
    } rows[] = {
        {ForwardKind::Local, "", "a:1", "params.listen"},
        {ForwardKind::Local, "0", "a:1", "params.listen"},
        {ForwardKind::Local, "65536", "a:1", "params.listen"},
        {ForwardKind::Local, "99999999999999999999", "a:1", "params.listen"},
        {ForwardKind::Local, "080", "a:1", "params.listen"},
        {ForwardKind::Local, " 80", "a:1", "params.listen"},
        {ForwardKind::Local, "-1", "a:1", "params.listen"},
        {ForwardKind::Local, "80x", "a:1", "params.listen"},
        {ForwardKind::Local, "::1:80", "a:1", "params.listen"},
        {ForwardKind::Local, "[127.0.0.1]:80", "a:1", "params.listen"},
        {ForwardKind::Local, "[::1:80", "a:1", "params.listen"},
        {ForwardKind::Local, "example.org:80", "a:1", "params.listen"},
        {ForwardKind::Local, "tmp/socket", "a:1", "params.listen"},
        {ForwardKind::Local, too_long, "a:1", "params.listen"},
        {ForwardKind::Local, std::string("/a\0b", 4), "a:1", "params.listen"},
        {ForwardKind::Dynamic, "/tmp/socket", std::nullopt, "params.listen"},
        {ForwardKind::Dynamic, "0", std::nullopt, "params.listen"},
        {ForwardKind::Remote, "-o:80", "a:1", "params.listen"},
        {ForwardKind::Remote, "a b:80", "a:1", "params.listen"},
        {ForwardKind::Local, "80", std::nullopt, "params.target"},
        {ForwardKind::Local, "80", "", "params.target"},
        {ForwardKind::Local, "80", "80", "params.target"},
        {ForwardKind::Local, "80", ":80", "params.target"},
        {ForwardKind::Local, "80", "a:0", "params.target"},
        {ForwardKind::Local, "80", "-oProxyCommand=x:80", "params.target"},
        {ForwardKind::Local, "80", "a:b:80", "params.target"},
        {ForwardKind::Local, "80", "a;b:80", "params.target"},
        {ForwardKind::Remote, "/tmp/socket", std::nullopt, "params.target"},
        {ForwardKind::Dynamic, "80", "a:1", "params.target"},
    };
    for (const auto& row : rows) {
        SCOPED_TRACE(row.listen + " " + row.target.value_or("-"));
        const auto forward = parse_forward(row.kind, row.listen, row.target);
        ASSERT_FALSE(forward.ok());
        EXPECT_EQ(forward.error().kind, ErrorKind::InvalidParams);
        EXPECT_THAT(forward.error().message, StartsWith(row.field));
    }
    EXPECT_THAT(parse_forward(ForwardKind::Local, "\x1b[31m", "a:1").error().message, HasSubstr("\\x1b"));
}

TEST(ForwardSpec, SplitsAsSshDoes) {
    const struct {
        ForwardKind kind;
        std::string text;
        ForwardWords words;
    } rows[] = {
        {ForwardKind::Local, "8080:db:80", {"8080", "db:80"}},
        {ForwardKind::Local, "*:8080:db:80", {"*:8080", "db:80"}},
        {ForwardKind::Local, ":8080:db:80", {":8080", "db:80"}},
        {ForwardKind::Local, "[::1]:8080:[2001:db8::1]:80", {"[::1]:8080", "[2001:db8::1]:80"}},
        {ForwardKind::Local, "8080:/run/db", {"8080", "/run/db"}},
        {ForwardKind::Local, "/tmp/l:db:80", {"/tmp/l", "db:80"}},
        {ForwardKind::Local, "/tmp/l:/run/db", {"/tmp/l", "/run/db"}},
        {ForwardKind::Remote, "8080:db:80", {"8080", "db:80"}},
        {ForwardKind::Remote, "8080:/run/db", {"8080", "/run/db"}},
        {ForwardKind::Remote, "1080", {"1080", std::nullopt}},
        {ForwardKind::Remote, "127.0.0.1:1080", {"127.0.0.1:1080", std::nullopt}},
        {ForwardKind::Remote, "/tmp/l:/run/db", {"/tmp/l", "/run/db"}},
        {ForwardKind::Remote, "/tmp/l:db:80", {"/tmp/l", "db:80"}},
        {ForwardKind::Dynamic, "[::1]:1080", {"[::1]:1080", std::nullopt}},
    };
    for (const auto& row : rows) {
        SCOPED_TRACE(row.text);
        const auto words = split_forward(row.kind, row.text);
        ASSERT_TRUE(words.ok()) << words.error().message;
        EXPECT_EQ(*words, row.words);
    }
    for (const char* text : {"", "8080", "db:80"}) {
        EXPECT_FALSE(split_forward(ForwardKind::Local, text).ok()) << text;
    }
}

}  // namespace
}  // namespace cmssh
