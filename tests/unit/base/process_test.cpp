// Real children, real time only as far as they need it.
#include "daemon/base/process.hpp"

#include <gmock/gmock.h>
#include <asio/co_spawn.hpp>
#include <asio/io_context.hpp>

#include <fcntl.h>
#include <poll.h>
#include <signal.h>

#include <array>
#include <filesystem>
#include <iterator>
#include <sstream>

#include "tests/unit/fakes/fake_clock.hpp"
#include "tests/unit/fakes/run_program.hpp"

namespace cmssh {
namespace {

using namespace std::chrono_literals;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr std::size_t kPlenty = 1024 * 1024;

std::size_t open_descriptors() {
    const std::filesystem::directory_iterator all("/proc/self/fd");
    return static_cast<std::size_t>(std::distance(begin(all), end(all)));
}

// A pipe that children inherit: it is at its end once all of them are gone.
class Lifeline {
public:
    Lifeline() {
        std::array<int, 2> ends{};
        if (::pipe(ends.data()) != 0) {
            throw std::runtime_error("pipe");
        }
        read_ = UniqueFd(ends[0]);
        write_ = UniqueFd(ends[1]);
        ::fcntl(read_.get(), F_SETFD, FD_CLOEXEC);
    }
    void spawned() { write_.reset(); }
    [[nodiscard]] bool cut() const { return fakes::readable_soon(read_.get()); }
    [[nodiscard]] bool cut_now() const {
        pollfd ended{read_.get(), POLLIN, 0};
        return ::poll(&ended, 1, 0) == 1;
    }

private:
    UniqueFd read_;
    UniqueFd write_;
};

// The loop waits for the children; the deadlines are those of a clock that stands still unless the test moves it.
class ProcessTest : public ::testing::Test {
protected:
    // As cmsshd does at its start.
    ProcessTest() { ::signal(SIGPIPE, SIG_IGN); }

    template <typename T>
    T run(asio::awaitable<T> task) {
        const auto outcome = start(std::move(task));
        finish(outcome);
        return std::move(*outcome);
    }
    template <typename T>
    fakes::Outcome<T> start(asio::awaitable<T> task) {
        fakes::Outcome<T> outcome;
        const auto rethrow = [](std::exception_ptr failure) {
            if (failure) {
                std::rethrow_exception(failure);
            }
        };
        asio::co_spawn(io_, keep(std::move(task), outcome), rethrow);
        clock_.run_ready();
        return outcome;
    }
    template <typename T>
    void finish(const fakes::Outcome<T>& outcome) {
        io_.restart();
        while (!outcome.done()) {
            if (io_.run_one_for(fakes::kHangs) == 0) {
                throw std::runtime_error("the child did not end");
            }
        }
    }
    asio::awaitable<Result<CapturedOutput>> captured(std::vector<std::string> argv, Duration time = 1h,
                                                     std::size_t max_bytes = kPlenty,
                                                     std::vector<std::string> environment = {}) {
        return run_captured(io_.get_executor(), clock_, spawner_, std::move(argv), std::move(environment),
                            clock_.now() + time, max_bytes);
    }
    asio::awaitable<Result<CapturedOutput>> sh(std::string script, Duration time = 1h,
                                               std::size_t max_bytes = kPlenty) {
        std::vector<std::string> argv = {"/bin/sh", "-c", std::move(script)};
        return captured(std::move(argv), time, max_bytes);
    }
    std::unique_ptr<ChildProcess> spawn(std::string script) {
        SpawnRequest request;
        request.argv = {"/bin/sh", "-c", std::move(script)};
        return std::move(spawner_.spawn(std::move(request)).value());
    }

    asio::io_context io_;
    fakes::FakeClock clock_{io_};
    PosixSpawner spawner_{io_.get_executor(), clock_};

private:
    template <typename T>
    static asio::awaitable<void> keep(asio::awaitable<T> task, fakes::Outcome<T> outcome) {
        outcome.set(co_await std::move(task));
    }
};

using RunCaptured = ProcessTest;

TEST_F(RunCaptured, GivesBothOutputsAndTheExitCode) {
    const auto output = run(sh("echo out; echo err >&2; printf 'a\\000b'; exit 7"));
    ASSERT_TRUE(output);
    EXPECT_EQ(output->status.code, 7);
    EXPECT_EQ(output->status.signal, 0);
    EXPECT_EQ(output->standard_output, std::string("out\na\0b", 7));
    EXPECT_EQ(output->standard_error, "err\n");
}

TEST_F(RunCaptured, GivesTheSignal) {
    const auto output = run(sh("kill -TERM $$"));
    ASSERT_TRUE(output);
    EXPECT_EQ(output->status.signal, SIGTERM);
    EXPECT_EQ(output->status.code, 0);
}

TEST_F(RunCaptured, ReadsOnBehindTheLimit) {
    // Far more than the pipes hold, on both.
    const std::string script = "head -c 3000000 /dev/zero; head -c 3000000 /dev/zero >&2; echo end";
    const auto output = run(sh(script, 1h, 1000));
    ASSERT_TRUE(output);
    EXPECT_EQ(output->status.code, 0);
    EXPECT_EQ(output->standard_output, std::string(1000, '\0'));
    EXPECT_EQ(output->standard_error, std::string(1000, '\0'));
    EXPECT_EQ(run(sh("echo x", 1h, 0))->standard_output, "");
}

TEST_F(RunCaptured, HandsWordsAndEnvironmentOnAsTheyAre) {
    std::vector<std::string> argv = {"printf", "%s|", "a b", "", "$HOME", "'", "é\n"};
    EXPECT_EQ(run(captured(std::move(argv)))->standard_output, "a b||$HOME|'|é\n|");
    std::vector<std::string> environment = {"ONE=1", "TWO=a b\nc"};
    argv = {"/usr/bin/env", "-0"};
    EXPECT_EQ(run(captured(std::move(argv), 1h, kPlenty, std::move(environment)))->standard_output,
              std::string("ONE=1\0TWO=a b\nc\0", 16));
}

TEST_F(RunCaptured, SaysWhatCanNotBeStarted) {
    for (const auto* program : {"/nonexistent/program", "no-such-program", "/etc/passwd", ""}) {
        std::vector<std::string> argv = {program};
        const auto output = run(captured(std::move(argv)));
        ASSERT_FALSE(output) << program;
        EXPECT_EQ(output.error().kind, ErrorKind::Internal);
        EXPECT_THAT(output.error().message, HasSubstr(std::string("cannot start ") + program));
    }
}

TEST_F(RunCaptured, KillsTheGroupAtTheDeadline) {
    Lifeline lifeline;
    const auto output = start(sh("echo x; sleep 1000 & sleep 1000", 5s));
    lifeline.spawned();
    clock_.advance(5s - 1ns);
    EXPECT_FALSE(output.done());
    EXPECT_FALSE(lifeline.cut_now());
    clock_.advance(1ns);
    ASSERT_TRUE(output.done());
    ASSERT_FALSE(*output);
    EXPECT_EQ(output->error().kind, ErrorKind::Timeout);
    EXPECT_THAT(output->error().message, HasSubstr("/bin/sh"));
    EXPECT_TRUE(lifeline.cut());
}

TEST_F(RunCaptured, KillsAChildThatHasClosedItsOutputsAndGoesOn) {
    Lifeline lifeline;
    const auto output = start(sh("exec >&- 2>&-; sleep 1000", 5s));
    lifeline.spawned();
    clock_.advance(5s);
    ASSERT_TRUE(output.done());
    EXPECT_EQ(output->error().kind, ErrorKind::Timeout);
    EXPECT_TRUE(lifeline.cut());
}

TEST_F(RunCaptured, LeavesNoDescriptorOpen) {
    const auto round = [this] {
        EXPECT_TRUE(run(sh("echo x; exit 3")));
        std::vector<std::string> missing = {"/nonexistent/program"};
        EXPECT_FALSE(run(captured(std::move(missing))));
        const auto hanging = start(sh("sleep 1000", 5s));
        clock_.advance(5s);
        EXPECT_TRUE(hanging.done());
    };
    round();  // what is opened once
    const auto before = open_descriptors();
    for (int i = 0; i < 5; ++i) {
        round();
    }
    EXPECT_EQ(open_descriptors(), before);
}

TEST_F(RunCaptured, HandsNoDescriptorOn) {
    const UniqueFd ours(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    const auto output = run(sh("printf '%s ' /proc/$$/fd/*"));
    EXPECT_THAT(output->standard_output, HasSubstr("/fd/2 "));
    EXPECT_THAT(output->standard_output, Not(HasSubstr("/fd/" + std::to_string(ours.get()) + ' ')));
}

TEST_F(RunCaptured, RunsManyAtOnce) {
    std::vector<fakes::Outcome<Result<CapturedOutput>>> outputs;
    for (int i = 0; i < 40; ++i) {
        outputs.push_back(start(sh("echo " + std::to_string(i) + "; exit " + std::to_string(i))));
    }
    for (int i = 0; i < 40; ++i) {
        const auto& output = outputs[static_cast<std::size_t>(i)];
        finish(output);
        ASSERT_TRUE(*output);
        EXPECT_EQ((*output)->status.code, i);
        EXPECT_EQ((*output)->standard_output, std::to_string(i) + '\n');
    }
}

using Spawner = ProcessTest;

TEST_F(Spawner, GivesAChildAFreshStart) {
    struct sigaction before {};
    struct sigaction ignore {};
    ignore.sa_handler = SIG_IGN;
    ::sigaction(SIGPIPE, &ignore, &before);
    sigset_t blocked;
    sigset_t mask_before;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGTERM);
    ::sigprocmask(SIG_BLOCK, &blocked, &mask_before);
    const auto status =
        run(sh("while read name value; do case $name in SigBlk:|SigIgn:) echo $value; esac; done "
               "< /proc/$$/status"));
    ::sigprocmask(SIG_SETMASK, &mask_before, nullptr);
    ::sigaction(SIGPIPE, &before, nullptr);
    std::istringstream lines(status->standard_output);
    std::uint64_t in_child_blocked = 1;
    std::uint64_t in_child_ignored = 1;
    lines >> std::hex >> in_child_blocked >> in_child_ignored;
    EXPECT_EQ(in_child_blocked, 0U);
    // Others may be ignored by whatever runs this test.
    EXPECT_EQ(in_child_ignored & (1U << (SIGPIPE - 1)), 0U) << status->standard_output;

    EXPECT_EQ(run(sh("cat; readlink /proc/$$/fd/0"))->standard_output, "/dev/null\n");
    // Field 5 of stat is the process group.
    EXPECT_EQ(run(sh("set -- $(cat /proc/$$/stat); [ \"$5\" = $$ ] && echo own"))->standard_output, "own\n");
}

TEST_F(Spawner, TellsTheEndOfAChildAgainAndAgain) {
    const auto child = spawn("exit 5");
    for (int i = 0; i < 3; ++i) {
        const auto status = run(child->wait_until(clock_.now() + 1h));
        ASSERT_TRUE(status);
        EXPECT_EQ(status->code, 5);
    }
    EXPECT_TRUE(run(child->wait_until(clock_.now() - 1h))) << "also behind the deadline";
}

TEST_F(Spawner, SaysWhenAChildStillRunsAtTheDeadline) {
    const auto child = spawn("sleep 1000");
    const auto status = start(child->wait_until(clock_.now() + 5s));
    clock_.advance(5s);
    ASSERT_TRUE(status.done());
    EXPECT_FALSE(*status);
    child->kill_group();
    EXPECT_EQ(run(child->wait_until(clock_.now() + 1h))->signal, SIGKILL);
    child->kill_group();
}

TEST_F(Spawner, KillsTheGroupOfAChildThatNobodyHoldsAnyMore) {
    Lifeline lifeline;
    auto child = spawn("sleep 1000 & sleep 1000");
    lifeline.spawned();
    EXPECT_FALSE(lifeline.cut_now());
    child.reset();
    EXPECT_TRUE(lifeline.cut());
    clock_.run_ready();  // collects it
}

TEST_F(Spawner, KillsWhatAFailedChildLeftInItsGroup) {
    Lifeline lifeline;
    const auto child = spawn("sleep 1000 & exit 1");
    lifeline.spawned();
    EXPECT_EQ(run(child->wait_until(clock_.now() + 1h))->code, 1);
    EXPECT_TRUE(lifeline.cut());
}

TEST_F(Spawner, SparesWhatASuccessfulChildLeftInItsGroup) {
    Lifeline lifeline;
    const auto child = spawn("sleep 1000 & exit 0");
    lifeline.spawned();
    EXPECT_EQ(run(child->wait_until(clock_.now() + 1h))->code, 0);
    EXPECT_FALSE(lifeline.cut_now());
    ::kill(-child->pid(), SIGKILL);
    EXPECT_TRUE(lifeline.cut());
}

TEST_F(Spawner, EndsEveryWaitByKillingAll) {
    const auto one = spawn("sleep 1000");
    const auto two = spawn("sleep 1000");
    const auto ended = spawn("exit 0");
    EXPECT_TRUE(run(ended->wait_until(clock_.now() + 1h)));
    spawner_.end_all();
    EXPECT_EQ(run(one->wait_until(clock_.now() + 1h))->signal, SIGKILL);
    EXPECT_EQ(run(two->wait_until(clock_.now() + 1h))->signal, SIGKILL);
    SpawnRequest request;
    request.argv = {"/bin/true"};
    const auto late = spawner_.spawn(std::move(request));
    ASSERT_FALSE(late);
    EXPECT_EQ(late.error().kind, ErrorKind::ShuttingDown);
}

TEST_F(Spawner, LetsTheLoopRunOutOfWorkOnceStopped) {
    EXPECT_TRUE(run(sh("exit 0")));
    spawner_.stop();
    io_.restart();
    io_.run_for(fakes::kHangs);
    EXPECT_TRUE(io_.stopped());
}

TEST(KillMarkedProcesses, EndsThoseWithExactlyThatVariable) {
    const std::string value = std::to_string(::getpid());
    // posix_spawn() returns a moment before the kernel shows the new program's environment.
    const std::vector<std::string> stopped = {"/bin/sh", "-c", "echo; kill -STOP $$"};
    std::array<int, 2> ends{};
    ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
    const UniqueFd reader(ends[0]);
    const UniqueFd writer(ends[1]);
    fakes::Program one(stopped, {{"A", "b"}, {"CMSSH_UNIT_MARK", value}}, ends[1], 2);
    fakes::Program two(stopped, {{"CMSSH_UNIT_MARK", value}, {"Z", ""}}, ends[1], 2);
    fakes::Program longer(stopped, {{"CMSSH_UNIT_MARK", value + "0"}}, ends[1], 2);
    fakes::Program inside(stopped, {{"X", "CMSSH_UNIT_MARK=" + value}}, ends[1], 2);
    for (int i = 0; i < 4; ++i) {
        char newline = 0;
        ASSERT_TRUE(fakes::readable_soon(reader.get()));
        ASSERT_EQ(::read(reader.get(), &newline, 1), 1);
    }
    EXPECT_EQ(marks_of_processes("CMSSH_UNIT_MARK"),
              (std::set<std::string>{"CMSSH_UNIT_MARK=" + value, "CMSSH_UNIT_MARK=" + value + "0"}));
    EXPECT_EQ(kill_marked_processes("CMSSH_UNIT_MARK=" + value), 2);
    EXPECT_EQ(one.wait(), SIGKILL);
    EXPECT_EQ(two.wait(), SIGKILL);
    EXPECT_TRUE(longer.running());
    EXPECT_TRUE(inside.running());
    EXPECT_EQ(kill_marked_processes("CMSSH_UNIT_MARK=" + value), 0);
}

}  // namespace
}  // namespace cmssh
