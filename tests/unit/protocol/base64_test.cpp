#include "protocol/base64.hpp"

#include <gtest/gtest.h>

namespace cmssh {
namespace {

struct Pair {
    std::string bytes;
    std::string text;
};

// RFC 4648, section 10, and the two characters that are no letters or digits.
const Pair kPairs[] = {{"", ""},
                       {"f", "Zg=="},
                       {"fo", "Zm8="},
                       {"foo", "Zm9v"},
                       {"foob", "Zm9vYg=="},
                       {"fooba", "Zm9vYmE="},
                       {"foobar", "Zm9vYmFy"},
                       {std::string("\0\0", 2), "AAA="},
                       {"\xfb\xff\xbf", "+/+/"}};

TEST(Base64, GoesBothWays) {
    for (const auto& [bytes, text] : kPairs) {
        EXPECT_EQ(base64_encode(bytes), text);
        EXPECT_EQ(base64_decode(text), bytes) << text;
    }
    std::string every;
    for (int byte = 0; byte < 256; ++byte) {
        every += static_cast<char>(byte);
        EXPECT_EQ(base64_decode(base64_encode(every)), every);
    }
}

TEST(Base64, RefusesWhatItIsNot) {
    for (const char* text :
         {"Z", "Zg", "Zg=", "Zm9v\n", "Zm9vYg==\n", "Zm 9", "Zm9-", "Z===", "====", "=", "Zg==Zg==", "Zh==", "Zm9="}) {
        EXPECT_EQ(base64_decode(text), std::nullopt) << text;
    }
}

}  // namespace
}  // namespace cmssh
