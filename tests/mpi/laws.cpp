// SPDX-License-Identifier: Apache-2.0
// processes: 8
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdlib>
#include <optional>
#include <string>

#include <doctest/doctest.h>
#include <laws/transport.hpp>
#include <mpi/world.hpp>

template<class Link> struct processes_over {
  static constexpr bool is_strict = false;  // MPI sends small messages before they are asked for
  void run(int ranks, auto f, double deadline) const { support::run_over_mpi<Link>(ranks, f, deadline); }
};

TEST_CASE("MPI keeps the laws") { laws::transport<processes_over<pipewright::mpi::link>>(); }

namespace {

namespace pw = pipewright;

/// A link whose requests are narrow, as MPI's are beyond 2^31 bytes: values go in many pieces.
class narrow : public pw::mpi::link {
 public:
  static constexpr std::size_t most_at_once = 4096;
  using link::link;
  MPI_Request send(int peer, int tag, void const* from, std::size_t bytes) {
    return link::send(peer, tag, from, no_more_than_allowed(bytes));
  }
  MPI_Request receive(int peer, int tag, void* to, std::size_t bytes) {
    return link::receive(peer, tag, to, no_more_than_allowed(bytes));
  }

 private:
  static std::size_t no_more_than_allowed(std::size_t bytes) {
    if (bytes > most_at_once) throw pw::error(std::to_string(bytes) + " bytes at once are too many");
    return bytes;
  }
};

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

/// The last rank of the world first.
class reversed {
 public:
  reversed() {
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_split(MPI_COMM_WORLD, 0, -rank, &all_);
  }
  reversed(reversed const&) = delete;
  reversed& operator=(reversed const&) = delete;
  ~reversed() { MPI_Comm_free(&all_); }
  MPI_Comm get() const { return all_; }

 private:
  MPI_Comm all_ = MPI_COMM_NULL;
};

}  // namespace

TEST_CASE("in many pieces, MPI keeps the laws") { laws::transport<processes_over<narrow>>(); }

TEST_CASE("a thread moves bytes only where MPI allows calls from any") {
  int level = MPI_THREAD_SINGLE;
  MPI_Query_thread(&level);
  pw::mpi::link const over;
  CHECK(over.wants_a_thread() == (level == MPI_THREAD_MULTIPLE));
  char const* const asked = std::getenv("PIPEWRIGHT_MPI_THREADS");
  if (asked != nullptr) CHECK(level < MPI_THREAD_MULTIPLE);
}

TEST_CASE("a value that is larger than a frame comes while its rank does something else") {
  int level = MPI_THREAD_SINGLE;
  MPI_Query_thread(&level);
  if (level < MPI_THREAD_MULTIPLE) return;  // no thread may move it
  support::run_over_mpi(
      2,
      [](auto& here) {
        std::string value;
        int const channel = here.open({0, 1, pw::traffic::activation});
        for (int round = 0; round < 3; ++round) {
          value.assign(std::size_t{16} << 20, static_cast<char>('a' + round));
          here.agree("begin");
          auto const begun =
              here.rank() == 0 ? here.send(channel, pw::message_of(value)) : here.post(channel, pw::message_of(value));
          if (here.rank() == 1) {  // until rank 0 has waited for it, by another way
            int heard = 0;
            auto const limit = std::chrono::steady_clock::now() + std::chrono::seconds(10);
            while (heard == 0 && std::chrono::steady_clock::now() < limit)
              MPI_Iprobe(0, 0, MPI_COMM_WORLD, &heard, MPI_STATUS_IGNORE);
            REQUIRE(heard != 0);
            MPI_Recv(nullptr, 0, MPI_CHAR, 0, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
          }
          here.wait(begun);
          if (here.rank() == 0) MPI_Send(nullptr, 0, MPI_CHAR, 1, 0, MPI_COMM_WORLD);
          else CHECK(value[1000] == 'a' + round);
        }
      },
      30);
}

TEST_CASE("a user's communicator keeps its ranks and its messages") {
  reversed const mine;
  int rank = 0, size = 0, peer = 0;
  MPI_Comm_rank(mine.get(), &rank);
  MPI_Comm_size(mine.get(), &size);
  if (rank < 2) peer = 1 - rank;
  constexpr int tags = 16;  // all that a link may use
  std::array<int, tags> theirs{}, ours{};
  std::array<MPI_Request, 2 * tags> requests{};
  requests.fill(MPI_REQUEST_NULL);
  if (rank < 2)
    for (int tag = 0; tag < tags; ++tag) {
      auto const i = static_cast<std::size_t>(tag);
      ours[i] = 100 * rank + tag;
      MPI_Irecv(&theirs[i], 1, MPI_INT, peer, tag, mine.get(), &requests[2 * i]);
    }
  {
    pw::mpi::link over(mine.get());
    pw::mpi::endpoint here(over, {.deadline = 30});
    CHECK(here.rank() == rank);
    CHECK(here.size() == size);
    if (rank < 2) {
      std::string value = rank == 0 ? "from the last of the world" : "";
      int const channel = here.open({0, 1, pw::traffic::activation});
      here.wait(rank == 0 ? here.send(channel, pw::message_of(value)) : here.post(channel, pw::message_of(value)));
      if (rank == 1) CHECK(value == "from the last of the world");
    }
  }
  if (rank < 2)
    for (int tag = 0; tag < tags; ++tag) {
      auto const i = static_cast<std::size_t>(tag);
      MPI_Isend(&ours[i], 1, MPI_INT, peer, tag, mine.get(), &requests[2 * i + 1]);
    }
  MPI_Waitall(2 * tags, requests.data(), MPI_STATUSES_IGNORE);
  if (rank < 2)
    for (int tag = 0; tag < tags; ++tag) CHECK(theirs[static_cast<std::size_t>(tag)] == 100 * peer + tag);
}

TEST_CASE("a value of more than 2^31 bytes arrives whole" * doctest::skip()) {  // 4.3 GB; mpi.laws_large
  support::run_over_mpi(2, [](auto& here) {
    constexpr std::size_t bytes = (std::size_t{1} << 31) + 12345;
    auto const at = [](std::size_t i) { return static_cast<char>(i * 0x9e3779b97f4a7c15U >> 56); };
    std::string value;
    if (here.rank() == 0) {
      value.resize(bytes);
      for (std::size_t i = 0; i < bytes; ++i) value[i] = at(i);
    }
    int const channel = here.open({0, 1, pw::traffic::activation});
    here.wait(here.rank() == 0 ? here.send(channel, pw::message_of(value)) : here.post(channel, pw::message_of(value)));
    if (here.rank() == 0) return;
    REQUIRE(value.size() == bytes);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < bytes; ++i) wrong += value[i] != at(i);
    CHECK(wrong == 0);
  });
}

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
