// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstdio>
#include <exception>
#include <sstream>
#include <string>
#include <vector>

#include <support/doctest_with_torch.hpp>

#include <pipewright/gloo/link.hpp>
#include <pipewright/launch/launch.hpp>

namespace support {

/// The processes of this job, which run all tests together.
struct processes {
  pipewright::launch::place here = pipewright::launch::find_place();
  pipewright::gloo::store store = pipewright::gloo::store_of(here);
  int runs = 0;

  static processes& all() {
    static processes one;
    return one;
  }

  /// What one rank says, for all, once all have said something; the first that is not empty.
  std::string first_of(std::string const& name, std::string const& own) {
    auto const key = [&](int rank) { return name + "/" + std::to_string(rank); };
    store->set(key(here.rank), std::vector<std::uint8_t>(own.begin(), own.end()));
    std::string first;
    for (int r = 0; r < here.size; ++r) {
      auto const said = store->get(key(r));
      if (first.empty()) first.assign(said.begin(), said.end());
    }
    return first;
  }
};

/// Runs f(endpoint&) on the first `ranks` processes; throws on all processes what one of them threw.
template<class F> void run_over_gloo(int ranks, F&& f, double deadline = 60) {
  auto& all = processes::all();
  auto const name = "run " + std::to_string(all.runs++);
  std::string fault;
  if (all.here.rank < ranks) {
    pipewright::gloo::link over(pipewright::gloo::part_of(all.store, name), all.here.rank, ranks);
    pipewright::gloo::endpoint here(over, {.deadline = deadline});
    try {
      f(here);
    } catch (std::exception const& e) {
      here.abort(e.what());
    }
    try {
      here.progress();
    } catch (std::exception const& told) {  // all were stopped
      fault = told.what();
    }
  }
  if (auto const first = all.first_of("fault of " + name, fault); !first.empty()) throw pipewright::error(first);
}

/// main of a program of several processes: one speaks, the others only where they fail.
inline int test_together(int argc, char** argv) {
  std::ostringstream unheard;
  doctest::Context context(argc, argv);
  auto& all = processes::all();
  if (all.here.rank != 0) context.setCout(&unheard);
  bool const failed = context.run() != 0;
  if (failed && all.here.rank != 0) std::fprintf(stderr, "rank %d:\n%s\n", all.here.rank, unheard.str().c_str());
  bool const any = !all.first_of("end", failed ? "failed" : "").empty();
  all.store->set("gone/" + std::to_string(all.here.rank), std::vector<std::uint8_t>{1});
  if (all.here.rank == 0) all.first_of("gone", "");  // whoever serves the store goes last
  return any;
}

}  // namespace support
