// SPDX-License-Identifier: Apache-2.0
#include <functional>
#include <string>
#include <utility>

#include <doctest/doctest.h>
#include <laws/transport.hpp>

#include <pipewright/transport/any_transport.hpp>
#include <pipewright/transport/in_process.hpp>

namespace pw = pipewright;
using pw::in_process::options;

struct threads {
  static constexpr bool is_strict = true;  // buffered, too: nothing is copied, so a value stays until it is posted for
  void run(int ranks, auto f, double deadline, options how = {}) const {
    how.deadline = deadline;
    how.grace = 60;
    pw::in_process::run(ranks, f, std::move(how));
  }
};
struct strict_threads : threads {};
struct buffered_threads : threads {
  void run(int ranks, auto f, double deadline) const {
    threads::run(ranks, f, deadline, {.mode = pw::in_process::buffered});
  }
};
struct linked_threads : threads {
  void run(int ranks, auto f, double deadline) const {
    threads::run(ranks, f, deadline, {.latency = 20e-6, .bandwidth = 20e9});
  }
};
struct buffered_linked_threads : threads {
  void run(int ranks, auto f, double deadline) const {
    auto const link_between = [](int source, int) { return pw::in_process::link{.latency = source * 20e-6}; };
    threads::run(ranks, f, deadline, {.mode = pw::in_process::buffered, .link_between = link_between});
  }
};
struct any_threads : threads {
  void run(int ranks, auto f, double deadline) const {
    threads::run(
        ranks,
        [&](pw::in_process::endpoint& here) {
          pw::any_transport_of over(here);
          f(static_cast<pw::any_transport&>(over));
        },
        deadline);
  }
};

TEST_CASE("strict threads keep the laws") { laws::transport<strict_threads>(); }
TEST_CASE("buffered threads keep the laws") { laws::transport<buffered_threads>(); }
TEST_CASE("threads with slow links keep the laws") { laws::transport<linked_threads>(); }
TEST_CASE("buffered threads with uneven links keep the laws") { laws::transport<buffered_linked_threads>(); }
TEST_CASE("threads whose type is forgotten keep the laws") { laws::transport<any_threads>(); }

TEST_CASE("a transport whose type is forgotten hears where its rank is, and when that computes") {
  struct hearing : pw::in_process::endpoint {
    std::string heard;
    explicit hearing(pw::in_process::endpoint& here) : endpoint(here) {}
    void locate(std::function<std::string()> where) { heard += where(); }
    void computing(bool begins) noexcept { heard += begins ? " begins" : " ends"; }
  };
  pw::in_process::run(1, [](pw::in_process::endpoint& here) {
    hearing hears(here);
    pw::any_transport_of over(hears);
    pw::any_transport& forgotten = over;
    forgotten.locate([] { return std::string("at F0"); });
    forgotten.computing(true);
    forgotten.computing(false);
    CHECK(hears.heard == "at F0 begins ends");
    pw::any_transport_of(here).computing(true);  // has no use for it
  });
}

// The laws can be broken: each of these transports is wrong in one way.

/// An endpoint that differs from the right one by what Wrong says.
template<class Wrong> struct wrong_threads : threads {
  void run(int ranks, auto f, double deadline) const {
    threads::run(
        ranks,
        [&](pw::in_process::endpoint& right) {
          Wrong here(right);
          f(here);
        },
        deadline);
  }
};

struct eager : pw::in_process::endpoint {
  explicit eager(pw::in_process::endpoint& right) : endpoint(right) {}
  std::vector<pw::ticket> sends;
  pw::ticket send(int channel, pw::message value) { return sends.emplace_back(endpoint::send(channel, value)); }
  bool poll(pw::ticket of) {
    for (auto const each : sends)
      if (each.channel == of.channel && each.number == of.number) return true;
    return endpoint::poll(of);
  }
};
struct one_channel : pw::in_process::endpoint {
  explicit one_channel(pw::in_process::endpoint& right) : endpoint(right) {}
  int open(pw::channel_key key) { return endpoint::open({key.source, key.destination, pw::traffic::step}); }
};
struct disordered : pw::in_process::endpoint {
  explicit disordered(pw::in_process::endpoint& right) : endpoint(right) {}
  std::optional<std::pair<int, pw::message>> held = {};
  pw::ticket send(int channel, pw::message value) {  // every second one first
    if (!held) return held.emplace(channel, value), pw::ticket{channel, sent++};
    endpoint::send(channel, value);
    auto const before = *std::exchange(held, std::nullopt);
    endpoint::send(before.first, before.second);
    return {channel, sent++};
  }
  std::uint64_t sent = 0;
};
struct deaf : pw::in_process::endpoint {
  explicit deaf(pw::in_process::endpoint& right) : endpoint(right) {}
  void abort(std::string_view) noexcept {}
};

TEST_CASE("a wrong transport is seen") {
  using namespace laws::of_transport;
  CHECK(laws::is_broken([] { sends_meet_posts<wrong_threads<eager>>(); }));
  CHECK(laws::is_broken([] { keeps_channels_apart<wrong_threads<one_channel>>(1); }));
  CHECK(laws::is_broken([] { takes_posts_ahead<wrong_threads<disordered>>(1); }));
  CHECK(laws::is_broken([] { aborts_from_any_rank<wrong_threads<deaf>>(1); }));
  CHECK_FALSE(laws::is_broken([] { sends_meet_posts<threads>(); }));
}
