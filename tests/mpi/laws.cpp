// SPDX-License-Identifier: Apache-2.0
// processes: 8
#include <chrono>
#include <cstddef>
#include <optional>
#include <string>

#include <doctest/doctest.h>
#include <laws/transport.hpp>
#include <mpi/world.hpp>

struct processes {
  static constexpr bool is_strict = false;  // MPI sends small messages before they are asked for
  void run(int ranks, auto f, double deadline) const { support::run_over_mpi(ranks, f, deadline); }
};

TEST_CASE("MPI keeps the laws") { laws::transport<processes>(); }

namespace {

namespace pw = pipewright;

/// A link that keeps the order of each tag and no other: everything but the news of ends is 50 ms late.
class overtaken {
 public:
  struct request {
    MPI_Request inner;
    bool is_late;
    std::optional<std::chrono::steady_clock::time_point> came = {};
  };
  int rank() const { return inner_.rank(); }
  int size() const { return inner_.size(); }
  bool wants_a_thread() const { return false; }
  request send(int peer, int tag, void const* from, std::size_t bytes) {
    return {inner_.send(peer, tag, from, bytes), false};
  }
  request receive(int peer, int tag, void* to, std::size_t bytes) {
    return {inner_.receive(peer, tag, to, bytes), tag != pw::wire::detail::news_tag};
  }
  bool test(request& of) {
    auto const now = std::chrono::steady_clock::now();
    if (!of.came && !inner_.test(of.inner)) return false;
    if (!of.came) of.came = now;
    return !of.is_late || now - *of.came > std::chrono::milliseconds(50);
  }
  bool cancel(request& of) noexcept { return inner_.cancel(of.inner); }

 private:
  pw::mpi::link inner_;
};

}  // namespace

TEST_CASE("what was sent and said before a rank's end counts, though its end is heard of first") {
  overtaken over;
  pw::wire::endpoint<overtaken> here(over, {.deadline = 10});
  pw::channel_key const key{0, 1, pw::traffic::activation};
  here.agree("the others hear of rank 0's end before its answer");
  if (here.rank() > 1) return;
  std::string values[3];
  int const channel = here.open(key);
  if (here.rank() == 0) {
    for (auto& each : values) {
      each = "sent";
      here.wait(here.send(channel, pw::message_of(each)));
    }
    return;
  }
  for (auto& each : values) here.post(channel, pw::message_of(each));
  here.wait({channel, 2});
  for (auto const& each : values) CHECK(each == "sent");
  std::string more;
  auto const missing = here.post(channel, pw::message_of(more));
  CHECK_THROWS_WITH_AS(here.wait(missing), doctest::Contains("rank 0 has returned without it"), pw::error);
}
