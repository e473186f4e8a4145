// SPDX-License-Identifier: Apache-2.0
// What an endpoint's thread does behind its owner's back, over a link in memory whose requests complete when the test says so.
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include <doctest/doctest.h>

#include <pipewright/error.hpp>
#include <pipewright/transport/wire/endpoint.hpp>

namespace pw = pipewright;

namespace {

constexpr int frames_tag = pw::wire::detail::control_tags, values_tag = frames_tag + 1;  // of activations

/// Where the bytes of all links are.
class bus {
 public:
  struct receive {
    int tag;
    void* to;
    std::size_t bytes;
    std::atomic<bool> is_done = false;
  };
  std::atomic<bool> holds_values = false;  ///< received values are on their way until release()
  std::atomic<bool> is_cut = false;        ///< the next look at a frame's receive fails, once
  std::atomic<int> cuts_seen = 0;

  void send(int from, int to, int tag, void const* what, std::size_t bytes) {
    std::lock_guard const lock(mutex_);
    auto const* const first = static_cast<char const*>(what);
    lines_[{from, to, tag}].sent.emplace_back(first, first + bytes);
    match(lines_[{from, to, tag}]);
  }
  std::shared_ptr<receive> ask(int from, int to, int tag, void* where, std::size_t bytes) {
    std::lock_guard const lock(mutex_);
    auto& line = lines_[{from, to, tag}];
    ++line.asked;
    auto made = std::make_shared<receive>(tag, where, bytes);
    line.wanted.push_back(made);
    match(line);
    return made;
  }
  void release() {
    std::lock_guard const lock(mutex_);
    holds_values = false;
    for (auto& each : lines_) match(each.second);
  }
  int asked(int from, int to, int tag) {
    std::lock_guard const lock(mutex_);
    return lines_[{from, to, tag}].asked;
  }
  std::uint64_t await_news(std::uint64_t seen, double most) {
    std::unique_lock lock(mutex_);
    come_.wait_for(lock, std::chrono::duration<double>(most), [&] { return news_ != seen; });
    return news_;
  }

 private:
  struct line {
    std::deque<std::vector<char>> sent;
    std::deque<std::shared_ptr<receive>> wanted;
    int asked = 0;
  };
  void match(line& of) {
    for (; !of.sent.empty() && !of.wanted.empty(); of.sent.pop_front(), of.wanted.pop_front()) {
      receive& to = *of.wanted.front();
      if (holds_values && to.tag == values_tag) return;
      REQUIRE(of.sent.front().size() == to.bytes);
      std::memcpy(to.to, of.sent.front().data(), to.bytes);
      to.is_done = true;
      ++news_;
      come_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable come_;
  std::map<std::tuple<int, int, int>, line> lines_;
  std::uint64_t news_ = 1;
};

class memory_link {
 public:
  using request = std::shared_ptr<bus::receive>;  // none for a send, which is over at once
  static constexpr std::size_t most_in_a_frame = 4096;

  memory_link(bus& over, int rank) : bus_{over}, rank_{rank} {}
  int rank() const { return rank_; }
  int size() const { return 2; }
  bool wants_a_thread() const { return false; }
  request send(int peer, int tag, void const* from, std::size_t bytes) {
    bus_.send(rank_, peer, tag, from, bytes);
    return nullptr;
  }
  request receive(int peer, int tag, void* to, std::size_t bytes) { return bus_.ask(peer, rank_, tag, to, bytes); }
  bool test(request& of) {
    if (of != nullptr && of->tag == frames_tag && bus_.is_cut.exchange(false)) {
      ++bus_.cuts_seen;
      throw pw::error("the cable is cut");
    }
    return of == nullptr || of->is_done;
  }
  bool cancel(request&) noexcept { return true; }  // what comes later is not looked at
  std::uint64_t await_news(std::uint64_t seen, double most) { return bus_.await_news(seen, most); }

 private:
  bus& bus_;
  int rank_;
};
static_assert(pw::wire::link<memory_link>);

/// Two ranks whose first value, which does not fit into a frame, has come over, and one large value for each transfer to follow.
struct two_ranks {
  bus between;
  memory_link links[2] = {{between, 0}, {between, 1}};
  pw::wire::endpoint<memory_link> sender{links[0], {.deadline = 10}}, receiver{links[1], {.deadline = 10}};
  int const out = sender.open({0, 1, pw::traffic::activation}), in = receiver.open({0, 1, pw::traffic::activation});
  std::vector<std::vector<double>> sent = std::vector(4, std::vector(1000, 0.5)),
                                   received = std::vector<std::vector<double>>(4);

  two_ranks() {
    auto const first = post(3);
    send(3);
    receiver.wait(first);
  }
  pw::ticket post(std::size_t which) { return receiver.post(in, pw::message_of(received[which])); }
  pw::ticket send(std::size_t which) { return sender.send(out, pw::message_of(sent[which])); }
};

/// Whether it comes about within ten seconds, which is for ever.
bool comes_about(auto&& what) {
  for (int look = 0; look < 10'000; ++look) {
    if (what()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return false;
}

std::string sentence_of(auto&& call) {
  try {
    call();
  } catch (pw::error const& e) {
    return e.what();
  }
  return "nothing";
}

}  // namespace

TEST_CASE("values that follow their frames are asked for while their owner computes, though others are on their way") {
  two_ranks ranks;
  ranks.between.holds_values = true;
  std::vector<pw::ticket> posted;
  for (std::size_t i = 0; i < 3; ++i) posted.push_back(ranks.post(i));
  for (int i = 0; i < 3; ++i) {
    ranks.send(static_cast<std::size_t>(i));
    CHECK(comes_about([&] { return ranks.between.asked(0, 1, values_tag) == i + 2; }));
  }
  ranks.between.release();
  for (pw::ticket const each : posted) ranks.receiver.wait(each);
  CHECK(ranks.received[2] == std::vector(1000, 0.5));
}

TEST_CASE("two frames are asked for at once, whatever the sizes before them") {
  two_ranks ranks;
  std::vector<std::vector<double>> values;  // 1000 do not fit into a frame, 300 not into the first
  for (std::size_t const size : {1, 300, 300, 1, 1000, 300, 300, 300, 1, 1000, 1}) values.emplace_back(size, 0.25);
  ranks.sent = values;
  ranks.received.resize(values.size());
  std::vector<pw::ticket> posted;
  for (std::size_t i = 0; i < values.size(); ++i) posted.push_back(ranks.post(i));
  CHECK(ranks.between.asked(0, 1, frames_tag) == 1 + 2);
  for (std::size_t i = 0; i < values.size(); ++i) ranks.send(i);
  for (pw::ticket const each : posted) ranks.receiver.wait(each);
  CHECK(ranks.received == values);
}

TEST_CASE("a fault that is met behind the owner's back says where its rank is, and stops the others") {
  two_ranks ranks;
  ranks.receiver.locate([] { return "rank 1, stage 1, micro-batch 0, action 1WAIT_F0"; });
  auto const posted = ranks.post(0);
  ranks.between.is_cut = true;
  ranks.send(0);
  REQUIRE(comes_about([&] { return ranks.between.cuts_seen == 1; }));
  std::string const where = "rank 1, stage 1, micro-batch 0, action 1WAIT_F0: the cable is cut";
  CHECK(sentence_of([&] { ranks.receiver.wait(posted); }).ends_with(where));
  CHECK(sentence_of([&] {
          for (;;) ranks.sender.progress();
        }).ends_with(where));
}

TEST_CASE("who waits for what has begun to come is not told that it was not sent") {
  two_ranks ranks;
  ranks.between.holds_values = true;
  auto const posted = ranks.post(0);
  ranks.send(0);
  REQUIRE(comes_about([&] { return ranks.between.asked(0, 1, values_tag) == 2; }));
  ranks.sender.abort("rank 0 has had enough");
  auto const said = sentence_of([&] { ranks.receiver.wait(posted); });
  CHECK_MESSAGE(
      said.starts_with("needs transfer 1 of the activation channel from rank 0 to rank 1, which rank 0 has not "
                       "sent to its end; all were stopped: "),
      said);
}

TEST_CASE("a value of another type is told alike to whoever asks") {
  two_ranks ranks;
  std::vector<float> other;
  auto const posted = ranks.receiver.post(ranks.in, pw::message_of(other));
  ranks.send(0);
  for (int again = 0; again < 2; ++again) {
    auto const said = sentence_of([&] { ranks.receiver.wait(posted); });
    CHECK_MESSAGE(said.find("transfer 1 of the activation channel from rank 0 to rank 1 is sent as") != said.npos,
                  said);
    CHECK_MESSAGE(said.find("needs") == said.npos, said);
  }
}

namespace {

struct on_a_device {
  std::vector<double> numbers = std::vector(1000, 0.5);  // do not fit into a frame; one does
  void for_each_part(auto&& visit) {
    visit(pw::part{numbers.data(), numbers.size() * sizeof(double), pw::element::float64, true});
  }
  std::vector<std::int64_t> shape() const { return {static_cast<std::int64_t>(numbers.size())}; }
  void reshape(std::span<std::int64_t const> to) { numbers.resize(static_cast<std::size_t>(to[0])); }
};

}  // namespace

TEST_CASE("a value on a device is refused, which the host does not reach") {
  for (std::size_t const size : {1, 1000}) {
    bus between;
    memory_link links[2] = {{between, 0}, {between, 1}};
    pw::wire::endpoint<memory_link> sender{links[0], {.deadline = 10}}, receiver{links[1], {.deadline = 10}};
    int const out = sender.open({0, 1, pw::traffic::activation});
    on_a_device value{std::vector(size, 0.5)};
    auto const said = sentence_of([&] { sender.wait(sender.send(out, pw::message_of(value))); });
    CHECK(said.find("on_a_device lies on a device, which this transport does not reach; choose pipewright::nccl") !=
          std::string::npos);
  }
}
