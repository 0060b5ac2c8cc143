#include "protocol/mux.hpp"

#include <gtest/gtest.h>

#include <string>

namespace cmssh::mux {
namespace {

using namespace std::string_literals;

std::string number(std::uint32_t value) {
    return {static_cast<char>(value >> 24), static_cast<char>(value >> 16 & 0xff), static_cast<char>(value >> 8 & 0xff),
            static_cast<char>(value & 0xff)};
}

std::string text(const std::string& value) {
    return number(static_cast<std::uint32_t>(value.size())) + value;
}

std::string packet(const std::string& body) {
    return text(body);
}

template <typename T>
T parse_as(const std::string& body) {
    const Result<Reply> reply = parse_reply(body);
    EXPECT_TRUE(reply.ok());
    const T* value = reply.ok() ? std::get_if<T>(&*reply) : nullptr;
    EXPECT_NE(value, nullptr);
    return value == nullptr ? T() : *value;
}

TEST(MuxBuilder, WritesEachMessageAsMuxCReadsIt) {
    EXPECT_EQ(hello(), "\0\0\0\x08\0\0\0\x01\0\0\0\x04"s);
    EXPECT_EQ(alive_check(7), "\0\0\0\x08\x10\0\0\x04\0\0\0\x07"s);
    EXPECT_EQ(terminate(0x01020304), "\0\0\0\x08\x10\0\0\x05\x01\x02\x03\x04"s);
    EXPECT_EQ(stop_listening(1), "\0\0\0\x08\x10\0\0\x09\0\0\0\x01"s);
}

TEST(MuxBuilder, WritesANewSessionWithoutEscapeCharX11AgentAndEnvironment) {
    const NewSession session{.want_tty = true, .subsystem = false, .term = "xterm", .command = "echo \xc3\xa9\n"};
    EXPECT_EQ(new_session(9, session),
              packet(number(0x10000002) + number(9) + text("") + number(1) + number(0) + number(0) + number(0) +
                     number(0xffffffff) + text("xterm") + text("echo \xc3\xa9\n")));
    const NewSession subsystem{.want_tty = false, .subsystem = true, .term = "", .command = "sftp"};
    EXPECT_EQ(new_session(9, subsystem), packet(number(0x10000002) + number(9) + text("") + number(0) + number(0) +
                                                number(0) + number(1) + number(0xffffffff) + text("") + text("sftp")));
}

TEST(MuxBuilder, WritesForwardsAsMuxCReadsThem) {
    const Forward local{.type = ForwardType::Local,
                        .listen = {.host = "localhost", .port = 8080},
                        .connect = {.host = "db", .port = 80}};
    EXPECT_EQ(open_forward(7, local), packet(number(0x10000006) + number(7) + number(1) + text("localhost") +
                                             number(8080) + text("db") + number(80)));
    EXPECT_EQ(close_forward(8, local), packet(number(0x10000007) + number(8) + number(1) + text("localhost") +
                                              number(8080) + text("db") + number(80)));
    const Forward remote{.type = ForwardType::Remote,
                         .listen = {.host = "", .port = 0},
                         .connect = {.host = "/run/x", .port = kUnixPath}};
    EXPECT_EQ(open_forward(7, remote), packet(number(0x10000006) + number(7) + number(2) + text("") + number(0) +
                                              text("/run/x") + number(0xfffffffe)));
    const Forward dynamic{.type = ForwardType::Dynamic, .listen = {.host = "*", .port = 1080}};
    EXPECT_EQ(open_forward(7, dynamic), packet(number(0x10000006) + number(7) + number(3) + text("*") + number(1080) +
                                               text("socks") + number(0)));
}

TEST(MuxReply, ReadsEachMessage) {
    EXPECT_EQ(parse_as<Hello>(number(1) + number(4)).version, 4U);
    EXPECT_EQ(parse_as<Ok>(number(0x80000001) + number(3)).request_id, 3U);

    const auto alive = parse_as<Alive>(number(0x80000005) + number(3) + number(4711));
    EXPECT_EQ(alive.request_id, 3U);
    EXPECT_EQ(alive.pid, 4711U);

    const auto opened = parse_as<SessionOpened>(number(0x80000006) + number(3) + number(2));
    EXPECT_EQ(opened.request_id, 3U);
    EXPECT_EQ(opened.session_id, 2U);

    const auto chosen = parse_as<RemotePort>(number(0x80000007) + number(3) + number(40123));
    EXPECT_EQ(chosen.request_id, 3U);
    EXPECT_EQ(chosen.port, 40123U);

    const auto exit = parse_as<ExitMessage>(number(0x80000004) + number(2) + number(255));
    EXPECT_EQ(exit.session_id, 2U);
    EXPECT_EQ(exit.exit_value, 255U);

    EXPECT_EQ(parse_as<TtyAllocFail>(number(0x80000008) + number(2)).session_id, 2U);

    const auto refused = parse_as<Refused>(number(0x80000003) + number(3) + text("Session open refused by peer"));
    EXPECT_EQ(refused.request_id, 3U);
    EXPECT_EQ(refused.reason, "Session open refused by peer");
    EXPECT_FALSE(refused.permission_denied);
    EXPECT_TRUE(parse_as<Refused>(number(0x80000002) + number(3) + text("no")).permission_denied);
}

TEST(MuxReply, PassesOverWhatNewerMastersAdd) {
    EXPECT_EQ(parse_as<Hello>(number(1) + number(4) + text("info") + text("0")).version, 4U);
    EXPECT_EQ(parse_as<Ok>(number(0x80000001) + number(3) + "more").request_id, 3U);
    EXPECT_EQ(parse_as<Unknown>(number(0x90000001) + number(3)).type, 0x90000001U);
    EXPECT_EQ(parse_as<Unknown>(number(0x8000000f)).type, 0x8000000fU);
}

TEST(MuxReply, RefusesABodyTooShortForItsType) {
    const std::string cases[] = {"",
                                 "\0\0\0"s,
                                 number(1),
                                 number(0x80000001),
                                 number(0x80000005) + number(3),
                                 number(0x80000006) + number(3) + "\0\0"s,
                                 number(0x80000007) + number(3),
                                 number(0x80000003) + number(3) + number(5) + "four",
                                 number(0x80000003) + number(3) + number(0xffffffff)};
    for (const std::string& body : cases) {
        const Result<Reply> reply = parse_reply(body);
        ASSERT_FALSE(reply.ok()) << body.size();
        EXPECT_EQ(reply.error().kind, ErrorKind::Internal);
    }
}

TEST(MuxPacketReader, CutsPacketsOutOfAnyPieces) {
    const std::string stream = packet("first") + packet("") + packet("third");
    PacketReader reader;
    std::vector<std::string> packets;
    for (const char byte : stream) {
        reader.feed({&byte, 1});
        while (true) {
            const auto next = reader.next();
            ASSERT_TRUE(next.ok());
            if (!*next) {
                break;
            }
            packets.push_back(**next);
        }
    }
    EXPECT_EQ(packets, (std::vector<std::string>{"first", "", "third"}));
}

TEST(MuxPacketReader, RefusesAnOversizedLengthBeforeItsBodyComes) {
    PacketReader fits;
    fits.feed(number(kMaxPacket));
    EXPECT_TRUE(fits.next().ok());
    PacketReader too_long;
    too_long.feed(number(kMaxPacket + 1));
    EXPECT_FALSE(too_long.next().ok());
}

}  // namespace
}  // namespace cmssh::mux
