#include "protocol/result.hpp"

#include <gtest/gtest.h>

#include <memory>

namespace cmssh {
namespace {

TEST(Result, HoldsAMoveOnlyValue) {
    Result<std::unique_ptr<int>> result = std::make_unique<int>(3);
    ASSERT_TRUE(result.ok());
    EXPECT_EQ(**std::move(result), 3);
}

TEST(Result, HoldsAnError) {
    const Result<void> result = Error{.kind = ErrorKind::Timeout, .message = "too late"};
    ASSERT_FALSE(result.ok());
    EXPECT_EQ(result.error().kind, ErrorKind::Timeout);
}

}  // namespace
}  // namespace cmssh
