// SPDX-License-Identifier: Apache-2.0
// processes: 8
#define DOCTEST_CONFIG_IMPLEMENT
#include <algorithm>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include <gloo/world.hpp>
#include <laws/transport.hpp>
#include <sched.h>

struct over_gloo {
  static constexpr bool is_strict = false;  // a send is complete once it is asked for, whether it fits or not
  void run(int ranks, auto f, double deadline) const { support::run_over_gloo(ranks, f, deadline); }
};

TEST_CASE("Gloo keeps the laws") { laws::transport<over_gloo>(); }

TEST_CASE("a write to a rank that died is an error, and not the end of this one") {
  auto const handler_after = [](void (*before)(int)) {
    struct sigaction now{};
    std::signal(SIGPIPE, before);
    support::run_over_gloo(2, [](auto&) {});
    sigaction(SIGPIPE, nullptr, &now);
    return now.sa_handler;
  };
  auto* const own = +[](int) {};
  CHECK((handler_after(own) == own));
  bool const has_link = support::processes::all().here.rank < 2;
  CHECK((handler_after(SIG_DFL) == (has_link ? SIG_IGN : SIG_DFL)));
}

TEST_CASE("a value that is larger than a frame comes while its rank does something else") {
  namespace pw = pipewright;
  auto& store = *support::processes::all().store;
  support::run_over_gloo(
      2,
      [&](auto& here) {
        std::string value;
        int const channel = here.open({0, 1, pw::traffic::activation});
        for (int round = 0; round < 3; ++round) {
          auto const heard = "heard of " + std::to_string(round);
          value.assign(std::size_t{16} << 20, static_cast<char>('a' + round));
          here.agree("begin");
          auto const begun =
              here.rank() == 0 ? here.send(channel, pw::message_of(value)) : here.post(channel, pw::message_of(value));
          // The first of a channel says how large they are. From then on its receiver need not call anything.
          if (here.rank() == 1 && round > 0) store.get(heard);
          here.wait(begun);
          if (here.rank() == 0) store.set(heard, std::vector<std::uint8_t>{1});
          else CHECK(value[1000] == 'a' + round);
        }
      },
      10);
}

TEST_CASE("Gloo's threads take a rank's core while it computes, and not else") {
  auto const policies = [] {
    std::vector<int> found;
    for (auto const& each : std::filesystem::directory_iterator("/proc/self/task")) {
      std::string name;
      std::ifstream(each.path() / "comm") >> name;
      if (name == "gloo_tcp_loop") found.push_back(sched_getscheduler(std::stoi(each.path().filename().string())));
    }
    return found;
  };
  support::run_over_gloo(2, [&](auto& here) {
    auto const at_first = policies();
    here.computing(false);
    auto const in_transfers = policies();
    here.computing(true);
    auto const under_work = policies();
    CHECK(at_first.size() > 0);
    CHECK(std::ranges::count(at_first, SCHED_OTHER) == std::ssize(at_first));
    CHECK(std::ranges::count(in_transfers, SCHED_BATCH) > 0);
    CHECK(under_work == at_first);
  });
}

TEST_CASE("rank 0 serves the store, unless torchrun's agent does already") {
  c10d::TCPStoreOptions options;
  options.port = 0;  // any
  options.isServer = true;
  options.waitWorkers = false;
  auto const agent = c10::make_intrusive<c10d::TCPStore>("127.0.0.1", options);
  pipewright::launch::place here;
  here.size = 2;
  here.address = "127.0.0.1";
  here.port = agent->getPort();
  here.run_id = "a.1";
  CHECK_THROWS_AS(pipewright::gloo::store_of(here, 1), pipewright::error);  // its port is taken
  here.store_is_served = true;
  auto const joined = pipewright::gloo::store_of(here, 5);
  joined->set("key", std::vector<std::uint8_t>{7});
  CHECK(agent->get("pipewright/a.1/key") == std::vector<std::uint8_t>{7});
  here.port = 0;
  CHECK_THROWS_WITH_AS(pipewright::gloo::store_of(here, 1), doctest::Contains("nobody says where the ranks meet"),
                       pipewright::error);
}

int main(int argc, char** argv) { return support::test_together(argc, argv); }
