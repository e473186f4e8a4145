// SPDX-License-Identifier: Apache-2.0
// Runs pipewright-run as people do, with shell scripts as ranks, and looks at what becomes of them.
// Waits are bounded and generous: they tell a hang from a slow machine, nothing finer.
#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <optional>
#include <set>
#include <sstream>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <pipewright/launch/launch.hpp>

namespace {

namespace fs = std::filesystem;
using words = std::vector<std::string>;
using variables = std::map<std::string, std::string>;

/// A directory of its own that goes away.
struct scratch {
  fs::path path = fs::temp_directory_path() / ("pipewright-run-" + std::to_string(getpid()));
  scratch() { fs::create_directories(path); }
  ~scratch() { fs::remove_all(path); }
};

/// A new path in it.
std::string fresh(std::string const& name) {
  static scratch const here;
  static int count = 0;
  return (here.path / (std::to_string(count++) + "-" + name)).string();
}

std::string content(fs::path const& path) {
  if (path == "/dev/full") return {};  // gives zeros without end
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

words lines_of(std::string const& text) {
  words lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

bool contains(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

/// Waits for something that must come.
void await(char const* what, std::function<bool()> const& condition) {
  for (int i = 0; i < 6000; ++i) {
    if (condition()) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  FAIL("did not come within a minute: " << what);
}

/// Of a process, zombies aside: nobody may be there to reap an orphan.
bool is_alive(pid_t pid) {
  auto const status = content("/proc/" + std::to_string(pid) + "/stat");
  auto const name_end = status.rfind(')');
  return name_end != status.npos && status.substr(name_end + 2, 1) != "Z" && status.substr(name_end + 2, 1) != "X";
}

/// Written whole by `echo $$ > file.part; mv file.part file`.
pid_t pid_in(std::string const& file) {
  await(file.c_str(), [&] { return fs::exists(file); });
  return std::stoi(content(file));
}

struct outcome {
  int code;  // 128 + n for a signal
  std::string out, err;
};

/// A pipewright-run that is running.
struct running {
  pid_t pid;
  std::string out, err;

  running(words const& arguments, variables const& set = {}, std::string const& in = "/dev/null",
          std::string const& out_file = "", bool together = false)
      : out(out_file.empty() ? fresh("out") : out_file), err(together ? out : fresh("err")) {
    pid = fork();
    REQUIRE(pid >= 0);
    if (pid > 0) return;
    auto redirect = [](std::string const& path, int flags, int to) {
      int const fd = open(path.c_str(), flags, 0600);
      if (fd < 0 || dup2(fd, to) < 0) _exit(99);
      close(fd);
    };
    redirect(in, O_RDONLY, 0);
    redirect(out, O_WRONLY | O_CREAT | O_APPEND, 1);
    if (together) dup2(1, 2);
    else redirect(err, O_WRONLY | O_CREAT | O_APPEND, 2);
    for (auto const* const name : {"OMP_NUM_THREADS", "RANK", "WORLD_SIZE"}) unsetenv(name);
    for (auto const& [name, value] : set) setenv(name.c_str(), value.c_str(), 1);
    std::string const program = PIPEWRIGHT_TOOLS_DIR "/pipewright-run";
    std::vector<char*> all{const_cast<char*>(program.c_str())};
    for (auto const& argument : arguments) all.push_back(const_cast<char*>(argument.c_str()));
    all.push_back(nullptr);
    execv(program.c_str(), all.data());
    _exit(99);
  }

  void send(int signal) const { REQUIRE(kill(pid, signal) == 0); }

  outcome end() const {
    int status = 0;
    bool ended = false;
    for (int i = 0; i < 12000 && !ended; ++i) {
      ended = waitpid(pid, &status, WNOHANG) == pid;
      if (!ended) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    if (!ended) {
      kill(pid, SIGKILL);
      waitpid(pid, &status, 0);
      FAIL("pipewright-run did not end within two minutes");
    }
    return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), content(out), content(err)};
  }
};

outcome run(words const& arguments, variables const& set = {}) { return running(arguments, set).end(); }

words shell(std::string const& ranks, std::string const& script, words const& options = {}) {
  words all{"-n", ranks};
  all.insert(all.end(), options.begin(), options.end());
  all.insert(all.end(), {"sh", "-c", script});
  return all;
}

int usable_cores() {
  cpu_set_t usable;
  return sched_getaffinity(0, sizeof usable, &usable) == 0 ? CPU_COUNT(&usable) : 1;
}

}  // namespace

TEST_CASE("help, version, and what cannot be done") {
  auto const help = run({"--help"});
  CHECK(help.code == 0);
  CHECK(contains(help.out, "Usage: pipewright-run -n RANKS [OPTIONS] PROGRAM [ARGUMENTS...]"));
  CHECK(contains(run({"--version"}).out, "pipewright "));
  for (words const& arguments : std::vector<words>{{},
                                                   {"-n", "4"},
                                                   {"true"},
                                                   {"-n", "0", "true"},
                                                   {"-n", "-1", "true"},
                                                   {"-n", "1025", "true"},
                                                   {"-n", "two", "true"},
                                                   {"-n", "2", "--deadline", "-1", "true"},
                                                   {"-n", "2", "--grace", "nan", "true"},
                                                   {"-n", "2", "--colour", "true"},
                                                   {"-n", "2", "--"}}) {
    auto const refused = run(arguments);
    CAPTURE(refused.err);
    CHECK(refused.code == 2);
    CHECK(refused.out.empty());
    CHECK(refused.err.starts_with("pipewright-run: "));
    CHECK(std::count(refused.err.begin(), refused.err.end(), '\n') == 1);
  }
  auto const missing = run({"-n", "3", "/there/is/none"});
  CHECK(missing.code == 127);
  CHECK(missing.err == "pipewright-run: cannot run '/there/is/none': No such file or directory\n");
  auto const directory = run({"-n", "3", "/tmp"});
  CHECK(directory.code == 126);
  CHECK(directory.err == "pipewright-run: cannot run '/tmp': Permission denied\n");
}

TEST_CASE("ranks find their places") {
  auto const ranks_of = [](variables const& set) {
    auto const file = fresh("env");
    auto const result = run(shell("4", "env > '" + file + ".'$RANK"), set);
    CHECK(result.code == 0);
    CHECK(result.err.empty());
    std::vector<variables> ranks;
    for (int r = 0; r < 4; ++r) {
      auto& rank = ranks.emplace_back();
      for (auto const& line : lines_of(content(file + "." + std::to_string(r))))
        if (auto const at = line.find('='); at != line.npos) rank[line.substr(0, at)] = line.substr(at + 1);
    }
    return ranks;
  };
  // Below another launcher, and below a rank of ours.
  for (variables const& outer :
       {variables{}, variables{{"PIPEWRIGHT_RANK", "3"}, {"PIPEWRIGHT_SIZE", "7"}, {"PIPEWRIGHT_PORT", "1"}},
        variables{{"OMPI_COMM_WORLD_RANK", "1"}, {"OMPI_COMM_WORLD_SIZE", "2"}},
        variables{
            {"RANK", "5"}, {"WORLD_SIZE", "6"}, {"TORCHELASTIC_USE_AGENT_STORE", "True"}, {"MASTER_ADDR", "x"}}}) {
    auto const ranks = ranks_of(outer);
    for (int r = 0; r < 4; ++r) {
      auto const at = ranks[r];
      CAPTURE(r);
      auto const place = pipewright::launch::find_place([&](std::string const& name) {
        auto const found = at.find(name);
        return found == at.end() ? std::nullopt : std::optional(found->second);
      });
      CHECK(place.from == pipewright::launch::source::torchrun);
      CHECK(place.rank == r);
      CHECK(place.size == 4);
      CHECK(place.local_rank == r);
      CHECK(place.local_size == 4);
      CHECK(place.address == "127.0.0.1");
      CHECK(place.port >= 1024);
      CHECK(place.port == std::stoi(ranks[0].at("MASTER_PORT")));
      CHECK_FALSE(place.store_is_served);
      CHECK(at.at("GROUP_RANK") == "0");
      CHECK(at.at("TORCHELASTIC_RUN_ID") == ranks[0].at("TORCHELASTIC_RUN_ID"));
      CHECK(at.at("OMP_NUM_THREADS") == std::to_string(std::max(1, usable_cores() / 4)));
    }
  }
  CHECK(ranks_of({{"OMP_NUM_THREADS", "7"}})[2].at("OMP_NUM_THREADS") == "7");
  CHECK(ranks_of({})[0].at("TORCHELASTIC_RUN_ID") != ranks_of({})[0].at("TORCHELASTIC_RUN_ID"));
}

TEST_CASE("arguments arrive as they are") {
  words const arguments{"-n", "9",    "--help",  "--",       "",   " two words ", "\"quoted\"", "'", "$HOME", "*", "\\",
                        "++", "a\nb", "--grace", "--x=\xff", "-v", "=",           "[1,2]",      "#", ";",     "&"};
  words all{"-n", "1", "sh", "-c", "for a; do printf '<%s>' \"$a\"; done; echo", "sh"};
  all.insert(all.end(), arguments.begin(), arguments.end());
  std::string expected;
  for (auto const& one : arguments) expected += "<" + one + ">";
  CHECK(run(all).out == expected + "\n");
  all.insert(all.begin() + 2, "--");
  CHECK(run(all).out == expected + "\n");
}

TEST_CASE("the first failure is the exit code, and a sentence names its rank") {
  auto const status = run(shell("3", "[ $RANK != 1 ] || exit 3"));
  CHECK(status.code == 3);
  CHECK(status.err == "pipewright-run: rank 1 ended with status 3\n");
  auto const signal = run(shell("3", "[ $RANK != 2 ] || kill -SEGV $$"));
  CHECK(signal.code == 128 + SIGSEGV);
  CHECK(signal.err == "pipewright-run: rank 2 was killed by signal 11 (Segmentation fault)\n");
  CHECK(run(shell("4", "exit 0")).code == 0);
  CHECK(run(shell("4", "exit 0")).err.empty());
}

TEST_CASE("others have time to say why they end") {
  auto const fault = fresh("fault");
  auto const result = run(shell("3",
                                "if [ $RANK = 1 ]; then : > '" + fault + "'; exit 9; fi; while [ ! -e '" + fault +
                                    "' ]; do sleep 0.05; done; sleep 0.3; echo rank $RANK lost rank 1 >&2; exit 4",
                                {"--grace", "60"}));
  CHECK(result.code == 9);
  CHECK(contains(result.err, "rank 0 lost rank 1\n"));
  CHECK(contains(result.err, "rank 2 lost rank 1\n"));
  CHECK(contains(result.err, "pipewright-run: rank 1 ended with status 9; ranks 0 and 2 failed as well\n"));
}

TEST_CASE("those that do not end are ended: asked first, then killed, stopped or not") {
  auto const ready = fresh("ready");
  std::string const script = "case $RANK in 0) sleep 1000;; 1) trap '' TERM; : > '" + ready +
                             "1'; while :; do sleep 1; done;; 2) : > '" + ready +
                             "2'; kill -STOP $$;; 3) while [ ! -e '" + ready + "1' -o ! -e '" + ready +
                             "2' ]; do sleep 0.05; done; sleep 0.5; exit 5;; esac";
  auto const result = run(shell("4", script, {"--grace", "0.5"}));
  CHECK(result.code == 5);
  std::string const said =
      "pipewright-run: rank 3 ended with status 5; rank 0 was ended with SIGTERM; rank 1 was ended with SIGKILL; rank "
      "2 "
      "was stopped, and ended with SIGTERM\n";
  // Rank 1's sleep may be just then begun.
  CHECK((result.err == said || result.err == said + "pipewright-run: killed 1 process that the ranks left behind\n"));
}

TEST_CASE("a deadline ends the run") {
  auto const result = run(shell("3", "[ $RANK = 1 ] || exec sleep 1000", {"--deadline", "1"}));
  CHECK(result.code == 124);
  CHECK(result.err == "pipewright-run: the deadline of 1 s was over; ranks 0 and 2 were ended with SIGTERM\n");
  CHECK(run(shell("2", "exit 6", {"--deadline", "100"})).code == 6);
}

TEST_CASE("signals are handed on") {
  for (int const signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) {
    CAPTURE(signal);
    auto const ready = fresh("ready");
    running const one(shell("3", "trap 'echo saved $RANK; exit 0' " + std::to_string(signal) + "; : > '" + ready +
                                     "'$RANK; while :; do sleep 0.1; done"));
    for (int r = 0; r < 3; ++r) await("ready", [&] { return fs::exists(ready + std::to_string(r)); });
    one.send(signal);
    auto const result = one.end();
    CHECK(result.code == 0);
    auto lines = lines_of(result.out);
    std::sort(lines.begin(), lines.end());
    CHECK(lines == words{"saved 0", "saved 1", "saved 2"});
  }
  {  // not asked to end: they go on
    auto const ready = fresh("ready");
    running const one(
        shell("2", "trap 'echo heard; exit 7' USR1; : > '" + ready + "'$RANK; while :; do sleep 0.1; done"));
    for (int r = 0; r < 2; ++r) await("ready", [&] { return fs::exists(ready + std::to_string(r)); });
    one.send(SIGUSR1);
    CHECK(one.end().code == 7);
  }
  {  // nobody cares to save anything
    auto const ready = fresh("ready");
    running const one(shell("2", ": > '" + ready + "'$RANK; exec sleep 1000"));
    for (int r = 0; r < 2; ++r) await("ready", [&] { return fs::exists(ready + std::to_string(r)); });
    one.send(SIGTERM);
    auto const result = one.end();
    CHECK(result.code == 128 + SIGTERM);
    CHECK(contains(result.err, "handed on signal 15 (Terminated); rank "));
  }
  {  // told twice
    auto const ready = fresh("ready");
    running const one(shell("2", "trap '' INT; : > '" + ready + "'$RANK; while :; do sleep 0.1; done"));
    for (int r = 0; r < 2; ++r) await("ready", [&] { return fs::exists(ready + std::to_string(r)); });
    one.send(SIGINT);
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    CHECK(is_alive(one.pid));
    one.send(SIGINT);
    auto const result = one.end();
    CHECK(result.code == 128 + SIGKILL);
    CHECK(contains(result.err, "ranks 0 and 1 were ended with SIGKILL"));
  }
  {  // ranks that hear nothing are killed in the end
    auto const ready = fresh("ready");
    running const one(
        shell("2", "trap '' TERM; : > '" + ready + "'$RANK; while :; do sleep 0.1; done", {"--stop", "1"}));
    for (int r = 0; r < 2; ++r) await("ready", [&] { return fs::exists(ready + std::to_string(r)); });
    one.send(SIGTERM);
    CHECK(one.end().code == 128 + SIGKILL);
  }
}

TEST_CASE("nothing outlives pipewright-run, even if it is killed") {
  std::string const pids = fresh("pids");
  auto tell = [&](std::string const& name) {
    return "echo $! > '" + pids + name + "'$RANK.part; mv '" + pids + name + "'$RANK.part '" + pids + name + "'$RANK; ";
  };
  std::string const child = "sleep 1000 & " + tell("child"), daemon = "setsid sleep 1000 & " + tell("daemon");
  SUBCASE("killed") {
    running const one(shell("3", "trap '' TERM INT HUP; " + child + "(exec sleep 1000) & " + tell("rank") + "wait"));
    std::vector<pid_t> all;
    for (int r = 0; r < 3; ++r)
      for (std::string const name : {"child", "rank"}) all.push_back(pid_in(pids + name + std::to_string(r)));
    for (auto const pid : all) CHECK(is_alive(pid));
    one.send(SIGKILL);
    CHECK(one.end().code == 128 + SIGKILL);
    for (auto const pid : all) await("the end of a rank or its child", [&] { return !is_alive(pid); });
  }
  SUBCASE("at its end, where ranks leave something behind") {
    auto const result = run(shell("2", child + daemon, {"--grace", "0.2"}));
    CHECK(result.code == 0);
    CHECK(result.err == "pipewright-run: killed 4 processes that the ranks left behind\n");
    for (int r = 0; r < 2; ++r)
      for (std::string const name : {"child", "daemon"}) CHECK_FALSE(is_alive(pid_in(pids + name + std::to_string(r))));
  }
  SUBCASE("what is left behind may finish writing") {
    auto const result = run(shell("2", "(sleep 0.5; echo late) &", {"--grace", "60"}));
    CHECK(result.code == 0);
    CHECK(result.out == "late\nlate\n");
    CHECK(result.err.empty());
  }
}

TEST_CASE("lines stay whole and in order") {
  auto check = [](std::string const& text, int streams, std::size_t ranks) {
    std::map<std::string, long> next;
    std::size_t count = 0;
    for (auto const& line : lines_of(text)) {
      auto const at = line.find('-');
      REQUIRE(at != line.npos);
      auto const whose = line.substr(0, at);
      CAPTURE(line);
      auto const number = std::to_string(100000 + next[whose]++);
      REQUIRE(line == whose + "-" + number + "-abcdefghijklmnopqrstuvwxyz-0123456789-end");
      ++count;
    }
    CHECK(next.size() == ranks * static_cast<std::size_t>(streams));
    CHECK(count == ranks * static_cast<std::size_t>(streams) * 10000);
  };
  auto writes = [](std::string const& name) {
    return "seq -f '" + name + "'$RANK-%6.0f-abcdefghijklmnopqrstuvwxyz-0123456789-end 100000 109999";
  };
  std::string const both = writes("out") + " & " + writes("err") + " >&2; wait";
  SUBCASE("apart") {
    auto const result = run(shell("4", both));
    CHECK(result.code == 0);
    check(result.out, 1, 4);
    check(result.err, 1, 4);
  }
  SUBCASE("2>&1") { check(running(shell("4", both), {}, "/dev/null", "", true).end().out, 2, 4); }
  SUBCASE("into a pipe with a slow reader, 2>&1") {
    auto const pipe = fresh("pipe");
    REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
    std::string text;
    std::thread reader([&] {
      int const fd = open(pipe.c_str(), O_RDONLY);
      std::array<char, 50000> buffer;
      for (ssize_t n; (n = read(fd, buffer.data(), buffer.size())) > 0;) {
        text.append(buffer.data(), static_cast<std::size_t>(n));
        if (text.size() < 1000000) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
      close(fd);
    });
    running const one(shell("4", both), {}, "/dev/null", pipe, true);
    reader.join();
    int status = 0;
    CHECK(waitpid(one.pid, &status, 0) == one.pid);
    CHECK(status == 0);
    check(text, 2, 4);
  }
  SUBCASE("tagged") {
    auto const result = run(shell("3", "echo one; echo; echo two >&2", {"--tag-output"}));
    auto out = lines_of(result.out), err = lines_of(result.err);
    std::sort(out.begin(), out.end());
    std::sort(err.begin(), err.end());
    CHECK(out == words{"[0] ", "[0] one", "[1] ", "[1] one", "[2] ", "[2] one"});
    CHECK(err == words{"[0] two", "[1] two", "[2] two"});
  }
  SUBCASE("of 300,000 characters") {
    auto const result = run(shell("3", "for i in 1 2 3; do head -c 300000 /dev/zero | tr '\\0' $RANK; echo; done"));
    auto lines = lines_of(result.out);
    std::sort(lines.begin(), lines.end());
    REQUIRE(lines.size() == 9);
    for (std::size_t i = 0; i < 9; ++i) CHECK(lines[i] == std::string(300000, static_cast<char>('0' + i / 3)));
  }
  SUBCASE("without an end") {
    CHECK(run(shell("1", "printf 'no end'")).out == "no end");
    CHECK(run(shell("1", "printf 'a\\nno end'", {"--tag-output"})).out == "[0] a\n[0] no end");
    auto const two = run(shell("2", "printf same"));
    CHECK(two.out == "same\nsame");
    CHECK(run(shell("1", "printf why >&2; exit 1")).err == "why\npipewright-run: rank 0 ended with status 1\n");
  }
  SUBCASE("whatever bytes they have") {
    auto const file = fresh("bytes");
    std::string bytes;
    for (int i = 0; i < 3000000; ++i) bytes += static_cast<char>((i * 2654435761u) >> 13);
    std::ofstream(file, std::ios::binary) << bytes;
    CHECK(run({"-n", "1", "cat", file}).out == bytes);
  }
}

TEST_CASE("whoever reads the output may go away, and a full disk is told") {
  auto const pipe = fresh("pipe");
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  std::thread reader([&] {  // as head -n 1
    int const fd = open(pipe.c_str(), O_RDONLY);
    char c;
    [[maybe_unused]] auto const n = read(fd, &c, 1);
    close(fd);
  });
  running const one({"-n", "2", "yes"}, {}, "/dev/null", pipe);
  reader.join();
  int status = 0;
  REQUIRE(waitpid(one.pid, &status, 0) == one.pid);
  CHECK(WEXITSTATUS(status) == 128 + SIGPIPE);

  if (fs::exists("/dev/full")) {
    auto const full = running({"-n", "2", "echo", "figures"}, {}, "/dev/null", "/dev/full").end();
    CHECK(full.code == 74);
    CHECK(full.err == "pipewright-run: cannot write the standard output: No space left on device\n");
  }
}

TEST_CASE("the standard input is rank 0's") {
  auto const in = fresh("in"), seen = fresh("seen");
  std::ofstream(in) << "one\ntwo\n";
  CHECK(running(shell("3", "cat > '" + seen + "'$RANK; [ $RANK = 0 ] || readlink /proc/self/fd/0"), {}, in).end().out ==
        "/dev/null\n/dev/null\n");
  CHECK(content(seen + "0") == "one\ntwo\n");
  CHECK(content(seen + "1").empty());
  CHECK(content(seen + "2").empty());
}

TEST_CASE("at a terminal rank 0 hears what is typed, and ^C ends all") {
  int const master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  REQUIRE(master >= 0);
  REQUIRE(grantpt(master) == 0);
  REQUIRE(unlockpt(master) == 0);
  std::string const name = ptsname(master), out = fresh("out");
  auto const pid = fork();
  REQUIRE(pid >= 0);
  if (pid == 0) {
    setsid();
    int const terminal = open(name.c_str(), O_RDWR);
    ioctl(terminal, TIOCSCTTY, 0);
    dup2(terminal, 0);
    int const file = open(out.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    dup2(file, 1);
    dup2(file, 2);
    execl(
        PIPEWRIGHT_TOOLS_DIR "/pipewright-run", "pipewright-run", "-n", "2", "sh", "-c",
        "trap 'echo caught; exit 0' INT; if [ $RANK = 0 ]; then read a; echo got $a; else echo ready; fi; while :; do "
        "sleep 0.1; done",
        nullptr);
    _exit(99);
  }
  await("ready", [&] { return contains(content(out), "ready"); });
  CHECK(write(master, "hello\n", 6) == 6);
  await("got hello", [&] { return contains(content(out), "got hello\n"); });
  CHECK(write(master, "\x03", 1) == 1);
  int status = -1;
  await("the end", [&] { return waitpid(pid, &status, WNOHANG) == pid; });
  CHECK(status == 0);
  auto const text = content(out);
  CHECK(text.find("caught") != text.rfind("caught"));
  close(master);
}

TEST_CASE("started with signals ignored or streams closed, it works the same") {
  auto const out = fresh("out");
  auto started = [&](std::string const& how) {
    auto const command = how + " '" PIPEWRIGHT_TOOLS_DIR "/pipewright-run' -n 2 sh -c 'sleep 0.1; exit 3'";
    auto const status = std::system((command + " 2> '" + out + "'").c_str());
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  };
  CHECK(started("trap '' CHLD PIPE INT HUP;") == 3);
  CHECK(started("exec <&- >&-;") == 3);
  CHECK(content(out).starts_with("pipewright-run: rank "));
}

TEST_CASE("several at once do not meet") {
  std::vector<running> all;
  for (int i = 0; i < 6; ++i) all.emplace_back(shell("2", "echo $MASTER_PORT; sleep 0.5"));
  std::set<std::string> ports;
  for (auto const& one : all) {
    auto const lines = lines_of(one.end().out);
    REQUIRE(lines.size() == 2);
    CHECK(lines[0] == lines[1]);
    ports.insert(lines[0]);
  }
  CHECK(ports.size() == 6);
}
