// SPDX-License-Identifier: Apache-2.0
// What the NCCL transport does on streams. None does anything before it must, so one that did not wait would find
// another value.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <vector>

#include <doctest/doctest.h>
#include <nccl/ranks.hpp>

namespace {

namespace pw = pipewright;
using pw::cuda::context;

/// As trainers hand one another: how many rows, on the host, and these on the device.
struct rows {
  int count = 0;
  pw::cuda::buffer<std::int32_t> values;
  void for_each_part(auto&& visit) {
    visit(count);
    visit(values);
  }
};

/// A copy to the host, when the stream gets there.
void copy(std::int32_t* to, std::int32_t const* from, std::size_t n) {
  if (n == 0) return;
  pw::cuda::check(cudaMemcpyAsync(to, from, n * sizeof *to, cudaMemcpyDeviceToHost, context::here().stream()),
                  "cudaMemcpyAsync");
}
/// 1, 2, 3, ..
std::vector<std::int32_t> counted(int n) {
  std::vector<std::int32_t> all(static_cast<std::size_t>(n));
  std::iota(all.begin(), all.end(), 1);
  return all;
}

}  // namespace

TEST_CASE("a receiver's stream waits for the sender's, and the sender's for who used the slot before") {
  constexpr int rounds = 100;
  for (auto const& how : nccl_ranks::ways)
    for (std::size_t const slots : {1, 3})
      nccl_ranks::run(
          2,
          [&](auto& here) {
            int const channel = here.open({0, 1, pw::traffic::activation});
            here.agree("all are here");
            std::vector<pw::cuda::buffer<std::int32_t>> ring(slots);
            for (auto& slot : ring) slot.resize(1);
            auto const given = counted(rounds);
            std::vector<std::int32_t> found(rounds);
            std::vector<pw::ticket> posted;
            for (std::size_t i = 0; i < rounds; ++i) {
              auto& slot = ring[i % slots];
              if (here.rank() == 0) {
                if (i >= slots) nccl_ranks::await(here, posted[i - slots]);
                slot.copy_from(&given[i]);
                posted.push_back(here.send(channel, pw::message_of(slot)));
                continue;
              }
              while (posted.size() < std::min<std::size_t>(i + slots, rounds))
                posted.push_back(here.post(channel, pw::message_of(ring[posted.size() % slots])));
              nccl_ranks::await(here, posted[i]);
              copy(&found[i], slot.data(), 1);
            }
            context::here().wait();
            if (here.rank() == 1) CHECK(found == given);
            if (here.rank() == 0)
              for (auto const each : posted) here.wait(each);  // before the slots go
          },
          how);
  CHECK(nccl_on_host::alive() == 0);
}

TEST_CASE("values of changing sizes, some of whose parts lie on the host") {
  nccl_ranks::run(2, [](auto& here) {
    int const channel = here.open({1, 0, pw::traffic::gradient});
    here.agree("all are here");
    auto const given = counted(40);
    for (int const n : {3, 40, 0, 1, 40, 2}) {
      rows slot;
      std::vector<std::int32_t> found(static_cast<std::size_t>(n));
      if (here.rank() == 1) {
        slot.count = n;
        slot.values.resize(static_cast<std::size_t>(n));
        slot.values.copy_from(given.data());
        here.wait(here.send(channel, pw::message_of(slot)));
      } else {
        here.wait(here.post(channel, pw::message_of(slot)));
        CHECK(slot.count == n);
        REQUIRE(slot.values.size() == found.size());
        copy(found.data(), slot.values.data(), found.size());
        context::here().wait();
        CHECK(std::equal(found.begin(), found.end(), given.begin()));
      }
    }
  });
}

TEST_CASE(
    "with fixed shapes a receive is queued when it is posted, a send holds nobody up, and the host waits for nothing") {
  nccl_ranks::run(2,
                  [](auto& here) {
                    int const channel = here.open({0, 1, pw::traffic::activation});
                    here.agree("all are here");
                    std::vector<pw::cuda::buffer<std::int32_t>> slots(20);
                    for (auto& slot : slots) slot.resize(1);
                    auto const given = counted(20);
                    std::vector<std::int32_t> found(20);
                    bool const sends = here.rank() == 0;
                    auto const begin = [&](std::size_t i) {
                      if (sends) slots[i].copy_from(&given[i]);
                      return sends ? here.send(channel, pw::message_of(slots[i]))
                                   : here.post(channel, pw::message_of(slots[i]));
                    };
                    nccl_ranks::await(here, begin(0));
                    here.agree("one value tells its shape");
                    auto const waits = cuda_on_host::waits;
                    std::vector<pw::ticket> begun;
                    if (!sends)
                      for (std::size_t i = 1; i < 20; ++i) {
                        begun.push_back(begin(i));
                        CHECK(here.poll(begun.back()));
                        copy(&found[i], slots[i].data(), 1);
                      }
                    here.agree("receives are queued");
                    CHECK(cuda_on_host::waits == waits);
                    here.agree("nobody has waited");
                    if (sends) {
                      for (std::size_t i = 1; i < 20; ++i) begun.push_back(begin(i));
                      context::here().wait();  // for none of what it sends: the receiver's host is past its part
                    } else {
                      context::here().wait();
                      for (std::size_t i = 1; i < 20; ++i) CHECK(found[i] == given[i]);
                    }
                    for (auto const each : begun) CHECK(here.poll(each));
                  },
                  {.shapes = pw::nccl::fixed});
}

TEST_CASE("a send does not hold up the rank's stream until its slot is needed") {
  nccl_ranks::run(2, [](auto& here) {
    int const channel = here.open({0, 1, pw::traffic::activation});
    here.agree("all are here");
    pw::cuda::buffer<std::int32_t> slot(1);
    if (here.rank() == 0) {
      auto const begun = here.send(channel, pw::message_of(slot));
      context::here().wait();
      here.agree("the stream has done all its work, and nobody has received");
      here.wait(begun);
    } else {
      here.agree("the stream has done all its work, and nobody has received");
      here.wait(here.post(channel, pw::message_of(slot)));
    }
  });
}

TEST_CASE("a receive waits for what was queued before its post, and for nothing later") {
  nccl_ranks::run(
      2,
      [](auto& here) {
        int const first = here.open({1, 0, pw::traffic::activation}), second = here.open({1, 0, pw::traffic::gradient});
        here.agree("all are here");
        pw::cuda::buffer<std::int32_t> a(1), b(1);
        auto const begin = [&](int channel, auto& slot) {
          return here.rank() == 1 ? here.send(channel, pw::message_of(slot)) : here.post(channel, pw::message_of(slot));
        };
        auto const until_queued = [&](pw::ticket of) {
          while (!here.poll(of)) std::this_thread::yield();
        };
        pw::ticket of_a, of_b;
        if (here.rank() == 0) of_a = begin(first, a), of_b = begin(second, b);
        here.agree("both are posted");
        if (here.rank() == 1) {
          of_a = begin(first, a);
          until_queued(of_a);  // the second leaves after the first
          of_b = begin(second, b);
        }
        until_queued(of_b);  // the receiver's stream waits for the second before it has heard of the first
        until_queued(of_a);
        context::here().wait();
        here.wait(of_b);
      },
      {.deadline = 5});
}

TEST_CASE("a send that was kept back leaves when its rank waits for something else") {
  nccl_ranks::run(2,
                  [](auto& here) {
                    int const channel = here.open({0, 1, pw::traffic::activation}),
                              answers = here.open({1, 0, pw::traffic::step});
                    here.agree("all are here");
                    pw::cuda::buffer<std::int32_t> slot(1);
                    int answer = 0;
                    std::vector<pw::ticket> begun;
                    for (int i = 0; i < 3; ++i) {
                      begun.push_back(here.rank() == 0 ? here.send(channel, pw::message_of(slot))
                                                       : here.post(channel, pw::message_of(slot)));
                      if (here.rank() == 1) here.wait(begun.back());
                    }
                    context::here().wait();
                    here.wait(here.rank() == 0 ? here.post(answers, pw::message_of(answer))
                                               : here.send(answers, pw::message_of(answer)));
                    for (auto const each : begun) here.wait(each);
                  },
                  {.shapes = pw::nccl::fixed, .deadline = 5, .one_communicator = true});
}

TEST_CASE("pinned memory is there while a receive is queued ahead") {
  nccl_ranks::run(2,
                  [](auto& here) {
                    int const channel = here.open({0, 1, pw::traffic::activation});
                    here.agree("all are here");
                    pw::cuda::buffer<std::int32_t> slot(1);
                    auto const exchange = [&](auto&& before_send) {
                      if (here.rank() == 1) {
                        auto const begun = here.post(channel, pw::message_of(slot));
                        pw::cuda::pinned_buffer<std::int32_t> some;
                        some.resize(std::size_t{1} << 20);
                        before_send();
                        return here.wait(begun);
                      }
                      before_send();
                      here.wait(here.send(channel, pw::message_of(slot)));
                    };
                    exchange([] {});
                    exchange([&] { here.agree("the receiver has its memory"); });
                  },
                  {.shapes = pw::nccl::fixed, .deadline = 10, .pinned_bytes = std::size_t{16} << 20});
}

TEST_CASE("all is connected in agree, and what is opened later in the next") {
  for (auto const& how : nccl_ranks::ways)
    nccl_ranks::run(
        2,
        [](auto& here) {
          auto const exchange = [&](int channel, int from) {
            pw::cuda::buffer<std::int32_t> slot(1);
            auto const before = nccl_on_host::connections;
            here.agree("exchange");
            for (int i = 0; i < 3; ++i)
              here.wait(here.rank() == from ? here.send(channel, pw::message_of(slot))
                                            : here.post(channel, pw::message_of(slot)));
            context::here().wait();
            here.agree("exchanged");
            CHECK(nccl_on_host::connections == before);
          };
          int const there = here.open({0, 1, pw::traffic::activation});
          if (here.rank() == 0) here.open({1, 0, pw::traffic::gradient});  // the other end comes later
          here.agree("one");
          exchange(there, 0);
          int const back = here.open({1, 0, pw::traffic::gradient});
          here.agree("two");
          exchange(back, 1);
          exchange(there, 0);
        },
        how);
}

TEST_CASE("the stand-in sees streams that wait for each other in a circle") {
  context here;
  bool is_cut = false;
  pw::cuda::event end;
  cuda_on_host::enqueue(here.stream(), [&] { return is_cut || cuda_on_host::run(*here.stream(), 2); });
  cuda_on_host::enqueue(here.stream(), [] {});
  end.record(here.stream());
  for (int i = 0; i < 3; ++i) CHECK(!end.is_reached());
  is_cut = true;
  here.wait();
  CHECK(end.is_reached());
}
