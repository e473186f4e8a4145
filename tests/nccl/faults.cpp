// SPDX-License-Identifier: Apache-2.0
// When something goes wrong with the NCCL transport, every rank ends, with a sentence that says what it waited for, and
// no communicator is left. The stand-in hangs where NCCL would.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <nccl/ranks.hpp>

#include <pipewright/cuda/step_graph.hpp>

namespace {

namespace pw = pipewright;
using pw::cuda::context;

pw::channel_key up(int from) { return {from, from + 1, pw::traffic::activation}; }
pw::channel_key down(int from) { return {from, from - 1, pw::traffic::gradient}; }
/// Seconds. No test waits so long: what ends a rank is another's failure or a short deadline of its own.
constexpr double far = 20;
bool says(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

/// What each rank throws; then none of their communicators is left, and no kernel is stuck.
std::vector<std::string> sentences_of(int ranks, auto f, std::vector<pw::nccl::options> const& how) {
  std::vector<std::string> said(static_cast<std::size_t>(ranks));
  auto const start = std::chrono::steady_clock::now();
  try {
    pw::in_process::run(ranks,
                        [&](pw::in_process::endpoint& control) {
                          auto const mine = static_cast<std::size_t>(control.rank());
                          try {
                            context where(0, control.rank());
                            nccl_ranks::endpoint here(control, where, how[std::min(mine, how.size() - 1)]);
                            f(here);
                            where.wait();
                          } catch (std::exception const& e) {
                            said[mine] = e.what();
                            throw;
                          }
                        },
                        {.deadline = far, .grace = far});
  } catch (pw::error const&) {}
  CHECK(std::chrono::steady_clock::now() - start < std::chrono::duration<double>(far));
  CHECK(nccl_on_host::alive() == 0);
  return said;
}
std::vector<std::string> sentences(int ranks, auto f, pw::nccl::options how = {}) {
  return sentences_of(ranks, f, {how});
}
void check_all_say(std::vector<std::string> const& said, std::initializer_list<std::string_view> parts) {
  for (auto const& text : said)
    for (auto const part : parts) {
      CAPTURE(text);
      CAPTURE(part);
      CHECK(says(text, part));
    }
}

/// A rank's ends of a pipeline's channels, connected.
struct [[maybe_unused]] neighbours {
  int up_out = -1, up_in = -1, down_out = -1, down_in = -1;
  explicit neighbours(auto& here) {
    int const me = here.rank();
    if (me + 1 < here.size()) up_out = here.open(up(me)), down_in = here.open(down(me + 1));
    if (me > 0) up_in = here.open(up(me - 1)), down_out = here.open(down(me));
    here.agree("connect");
  }
};
/// For as long as all goes well.
void stay(auto& here) {
  for (;; std::this_thread::yield()) here.progress();
}

}  // namespace

TEST_CASE("a fault that NCCL reports while a rank waits for its device") {
  for (auto how : nccl_ranks::ways) {
    auto const said = sentences(
        3,
        [](auto& here) {
          neighbours const to(here);
          pw::cuda::buffer<int> slot(1);
          if (here.rank() != 1) stay(here);
          for (int i = 0; i < 2; ++i) here.send(to.up_out, pw::message_of(slot));
          nccl_on_host::fail("ncclCommGetAsyncError", 5, ncclRemoteError);
          here.wait(here.post(to.down_in, pw::message_of(slot)));
        },
        how);
    check_all_say(said, {"rank ", " has lost the ", "remote process exited or there was a network error"});
    if (!how.one_communicator) check_all_say(said, {" channel from rank "});
  }
}

TEST_CASE("a peer that does not send what the device waits for") {
  for (auto how : nccl_ranks::ways) {
    if (how.shapes == pw::nccl::varying) continue;  // what is not told is not queued
    how.deadline = 0.2;
    auto const said = sentences(
        3,
        [](auto& here) {
          here.locate([] { return "rank 1, stage 5"; });
          neighbours const to(here);
          pw::cuda::buffer<int> slot(1);
          if (here.rank() == 0) nccl_ranks::await(here, here.send(to.up_out, pw::message_of(slot)));
          if (here.rank() != 1) stay(here);
          for (int i = 0; i < 2; ++i) nccl_ranks::await(here, here.post(to.up_in, pw::message_of(slot)));
          context::here().wait();
        },
        how);
    check_all_say(said, {"rank 1, stage 5: waited 0.2 s on its device for transfer 1 of the activation channel from "
                         "rank 0 to rank 1, which rank 0 has not sent"});
  }
}

TEST_CASE("a peer that fails, or does not send, while the device waits within a step's graph") {
  for (bool const fails : {true, false}) {
    auto const said = sentences(2,
                                [&](auto& here) {
                                  neighbours const to(here);
                                  pw::cuda::buffer<int> slot(1);
                                  pw::cuda::step_graph graph(context::here());
                                  for (int step = 0; step < 6; ++step)
                                    graph([&] {
                                      if (here.rank() == 0 && step == 5 && fails)
                                        throw std::runtime_error("out of data");
                                      if (here.rank() == 0 && step == 5) stay(here);
                                      auto const moved = here.rank() == 0 ? here.send(to.up_out, pw::message_of(slot))
                                                                          : here.post(to.up_in, pw::message_of(slot));
                                      nccl_ranks::await(here, moved);
                                      slot.clear();
                                    });
                                },
                                {.shapes = pw::nccl::fixed, .deadline = fails ? far : 0.2});
    check_all_say(said,
                  {fails ? "out of data"
                         : "rank 1 waited 0.2 s on its device for transfer 5 of the activation channel from rank 0 to "
                           "rank 1, which rank 0 has not sent"});
  }
}

TEST_CASE("a rank waits for a send within a step's graph, and a failure is heard while one is only written down") {
  std::atomic<bool> is_written = false;
  auto const said = sentences(2,
                              [&](auto& here) {
                                neighbours const to(here);
                                pw::cuda::buffer<int> slot(1);
                                pw::cuda::step_graph graph(context::here());
                                for (int step = 0; step < 5; ++step)
                                  graph([&] {
                                    if (here.rank() == 1 && step == 4) {
                                      while (!is_written) std::this_thread::yield();
                                      throw std::runtime_error("out of data");
                                    }
                                    auto const moved = here.rank() == 0 ? here.send(to.up_out, pw::message_of(slot))
                                                                        : here.post(to.up_in, pw::message_of(slot));
                                    is_written = step == 4;
                                    if (is_written) stay(here);
                                    here.wait(moved);
                                  });
                              },
                              {.shapes = pw::nccl::fixed, .deadline = far});
  check_all_say(said, {"out of data"});
}

TEST_CASE("what is written down leaves before a rank waits for another one's host, or for a point of its own") {
  auto const said = sentences(2,
                              [&](auto& here) {
                                int const told = here.open({1, 0, pw::traffic::step});
                                neighbours const to(here);
                                auto& where = context::here();
                                pw::cuda::buffer<int> slot(1);
                                int number = 0;
                                pw::cuda::step_graph graph(where);
                                for (int step = 0; step < 5; ++step)
                                  graph([&] {
                                    if (here.rank() == 0) {
                                      here.send(to.up_out, pw::message_of(slot));
                                      here.wait(here.post(told, pw::message_of(number)));
                                      return;
                                    }
                                    nccl_ranks::await(here, here.post(to.up_in, pw::message_of(slot)));
                                    pw::cuda::event arrived;
                                    arrived.record(where.stream());
                                    where.wait(arrived);
                                    here.wait(here.send(told, pw::message_of(number)));
                                  });
                              },
                              {.shapes = pw::nccl::fixed, .deadline = far});
  for (auto const& each : said) CHECK(each == "");
}

TEST_CASE("one communicator is refused within a step's graph") {
  check_all_say(sentences(2,
                          [](auto& here) {
                            neighbours const to(here);
                            pw::cuda::buffer<int> slot(1);
                            pw::cuda::step_graph graph(context::here());
                            for (int step = 0; step < 3; ++step)
                              graph([&] {
                                nccl_ranks::await(here, here.rank() == 0 ? here.send(to.up_out, pw::message_of(slot))
                                                                         : here.post(to.up_in, pw::message_of(slot)));
                              });
                          },
                          {.shapes = pw::nccl::fixed, .one_communicator = true}),
                {"leave each channel a communicator of its own, or run steps without a step_graph"});
}

TEST_CASE("a peer that does not tell, and one that does not receive") {
  check_all_say(
      sentences(2,
                [](auto& here) {
                  neighbours const to(here);
                  pw::cuda::buffer<int> slot(1);
                  if (here.rank() == 1) stay(here);
                  here.wait(here.post(to.down_in, pw::message_of(slot)));
                },
                {.deadline = 0.2}),
      {"rank 0 waited 0.2 s for transfer 0 of the gradient channel from rank 1 to rank 0, which rank 1 has not sent"});
  check_all_say(sentences(2,
                          [](auto& here) {
                            neighbours const to(here);
                            pw::cuda::buffer<int> slot(1);
                            if (here.rank() == 1) stay(here);
                            try {
                              here.wait(here.send(to.up_out, pw::message_of(slot)));
                            } catch (pw::error const&) {  // the kernel has ended, so that the device will free the slot
                              for (auto const& each : nccl_on_host::communicators)
                                CHECK((each->device != std::this_thread::get_id() || each->is_gone));
                              throw;
                            }
                          },
                          {.deadline = 0.2}),
                {"rank 0 waited 0.2 s ",
                 "for transfer 0 of the activation channel from rank 0 to rank 1, which rank 1 has not received"});
}

TEST_CASE("a rank that throws, with kernels under way everywhere") {
  for (auto const& how : nccl_ranks::ways)
    for (int culprit = 0; culprit < 4; ++culprit) {
      auto const said = sentences(
          4,
          [&](auto& here) {
            neighbours const to(here);
            pw::cuda::buffer<int> a(1), b(1), c(1), d(1);
            if (to.up_out >= 0) here.send(to.up_out, pw::message_of(a)), here.send(to.up_out, pw::message_of(a));
            if (to.down_out >= 0) here.send(to.down_out, pw::message_of(b)), here.send(to.down_out, pw::message_of(b));
            context::here().wait();
            if (here.rank() == culprit) throw std::runtime_error("this stage is broken");
            stay(here);
          },
          how);
      check_all_say(said, {"this stage is broken"});
    }
}

TEST_CASE("a connection that cannot be made") {
  nccl_on_host::fail("ncclCommInitRankConfig", 1, ncclSystemError);
  check_all_say(sentences(2, [](auto& here) { neighbours const to(here); }),
                {"rank ", " cannot connect the ", " channel from rank ", "unhandled system error", "its last words"});
  nccl_on_host::fail("ncclGetUniqueId", 0, ncclSystemError);
  check_all_say(sentences(2, [](auto& here) { neighbours const to(here); }),
                {"rank ", "ncclGetUniqueId at connections.hpp"});
  nccl_on_host::fail("ncclSend", 1, ncclInternalError);
  check_all_say(sentences(2, [](auto& here) { neighbours const to(here); }), {"rank ", "ncclSend", "internal error"});
}

TEST_CASE("what does not fit together") {
  check_all_say(sentences(2,
                          [](auto& here) {
                            neighbours const to(here);
                            pw::cuda::buffer<int> slot(1);
                            for (int i = 0; i < 2; ++i, slot.resize(2))
                              here.wait(here.rank() == 0 ? here.send(to.up_out, pw::message_of(slot))
                                                         : here.post(to.up_in, pw::message_of(slot)));
                            if (here.rank() == 1) stay(here);
                          },
                          {.shapes = pw::nccl::fixed}),
                {"rank 0 sends transfer 1 of the activation channel from rank 0 to rank 1 with another shape",
                 "set nccl::options::shapes to varying"});
  check_all_say(sentences_of(2, [](auto& here) { neighbours const to(here); },
                             {{.shapes = pw::nccl::fixed}, {.shapes = pw::nccl::varying}}),
                {"rank 1 has NCCL ", "varying shapes and a communicator for each channel, but rank 0 has NCCL ",
                 "start every rank with one library and the same nccl::options"});
  check_all_say(sentences(1, [](auto&) {}, {.one_communicator = true}), {"set shapes to fixed"});
  check_all_say(sentences(2,
                          [](auto& here) {
                            int const channel = here.open(up(0));
                            pw::cuda::buffer<int> slot(1);
                            here.wait(here.rank() == 0 ? here.send(channel, pw::message_of(slot))
                                                       : here.post(channel, pw::message_of(slot)));
                          }),
                {"is not connected; open it on both ranks before agree()"});
  check_all_say(sentences(2,
                          [](auto& here) {
                            here.open({0, 1, pw::traffic::activation});
                            here.open({0, 1, pw::traffic::gradient});
                            here.agree("connect");
                          },
                          {.shapes = pw::nccl::fixed, .one_communicator = true}),
                {"cannot tell the ", "leave each channel a communicator of its own"});
}

TEST_CASE("without a device") {
  cuda_on_host::devices = 0;
  check_all_say(sentences(2, [](auto&) {}), {"there is no CUDA device here"});
  pw::nccl::communicators all(0);
  ncclUniqueId id;
  pw::nccl::check(ncclGetUniqueId(&id), "ncclGetUniqueId");
  CHECK_THROWS_WITH_AS(
      all.begin(1, id, 0, 4),
      doctest::Contains("failed: unhandled cuda error (run with NCCL_DEBUG=INFO for details), its last words; "
                        "run on a machine with an NVIDIA GPU and a driver for this CUDA"),
      pw::error);
  cuda_on_host::devices = 1;
}

TEST_CASE("a communicator of one's own") {
  auto const run = [](bool fails, int shift) {
    ncclUniqueId id;
    ncclGetUniqueId(&id);
    pw::in_process::run(
        2,
        [&](pw::in_process::endpoint& control) {
          context where(0, control.rank());
          ncclConfig_t how = NCCL_CONFIG_INITIALIZER;
          how.blocking = 1;
          ncclComm_t mine = nullptr;
          REQUIRE(ncclCommInitRankConfig(&mine, 2, id, (control.rank() + shift) % 2, &how) == ncclSuccess);
          struct at_end {
            ncclComm_t mine;
            ~at_end() {
              ncclCommFinalize(mine);
              ncclCommDestroy(mine);
            }
          } const ended{mine};
          nccl_ranks::endpoint here(control, where, {.shapes = pw::nccl::fixed, .communicator = mine});
          neighbours const to(here);
          pw::cuda::buffer<int> slot(1);
          for (int i = 0; i < 3; ++i)
            here.wait(control.rank() == 0 ? here.send(to.up_out, pw::message_of(slot))
                                          : here.post(to.up_in, pw::message_of(slot)));
          where.wait();
          if (fails && control.rank() == 1) throw std::runtime_error("this stage is broken");
          if (fails) here.wait(here.send(to.up_out, pw::message_of(slot)));
        },
        {.deadline = far, .grace = far});
  };
#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 28, 7)
  auto const before = nccl_on_host::transfers;
  run(false, 0);
  CHECK(nccl_on_host::transfers ==
        before + 2 + 2);  // two channels are tried out, and the first value goes by way of the hosts
  CHECK_THROWS_WITH(run(true, 0), doctest::Contains("this stage is broken"));
  CHECK_THROWS_WITH(run(false, 1), doctest::Contains("give one that has the control transport's ranks"));
#else
  CHECK_THROWS_WITH(run(false, 0), doctest::Contains("needs NCCL 2.28.7"));
#endif
  CHECK(nccl_on_host::alive() == 0);
}
