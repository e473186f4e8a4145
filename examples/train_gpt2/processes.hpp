// SPDX-License-Identifier: Apache-2.0
// Where the ranks of a training run: threads of this process, or processes, this one being one of them.
#pragma once

#include <cstddef>
#include <functional>
#include <numeric>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include <pipewright/error.hpp>
#include <pipewright/plan/plan_view.hpp>
#include <pipewright/transport/in_process.hpp>
#include <pipewright/transport/wire/endpoint.hpp>

#include "endpoint.hpp"
#include "request.hpp"
#include "share.hpp"
#include "told_to_end.hpp"

namespace trainer {

/// `count` ranks from `first` on.
inline std::vector<int> ranks_from(int first, int count) {
  std::vector<int> all(static_cast<std::size_t>(count));
  std::iota(all.begin(), all.end(), first);
  return all;
}

/// Throws where a launcher has not started a process for each rank; `command`: what would.
inline void check_started(int started, request const& r, std::string_view command) {
  if (started != r.ranks)
    throw pw::error(
        fmt::format("{} process{} started, but --ranks is {}; start as many: {} {} train_gpt2 --transport {} "
                    "...",
                    started, started == 1 ? " was" : "es were", r.ranks, command, r.ranks, r.transport));
}

/// One rank's part of a training.
using part = std::function<share(endpoint&)>;

/// Those of one kind.
class processes {
 public:
  processes() = default;
  processes(processes const&) = delete;
  processes& operator=(processes const&) = delete;
  virtual ~processes() = default;

  /// The rank that this process is; 0 where it is all of them.
  virtual int rank() const = 0;
  /// Those of `all` ranks that are known to run on this machine; this process's at least.
  virtual std::vector<int> ranks_here(int all) const = 0;
  /// Runs the part of each rank that this process is. All shares, on rank 0; none on others. Throws what ended a rank.
  virtual std::vector<share> run(request const& r, pw::plan_view plan, part const& part_of) const = 0;

 protected:
  /// The same for one rank, over a link between processes.
  template<pw::wire::link Link> static std::vector<share> run_over(Link& over, request const& r, part const& part_of) {
    auto const& told_to_end = note_signals();
    pw::wire::endpoint<Link> here(over, {.deadline = r.deadline, .told_to_end = &told_to_end});
    endpoint_of end(here, &told_to_end);
    return gathered(end, part_of(end));
  }
};

/// A thread a rank.
class threads final : public processes {
 public:
  int rank() const override { return 0; }
  std::vector<int> ranks_here(int all) const override { return ranks_from(0, all); }
  std::vector<share> run(request const& r, pw::plan_view plan, part const& part_of) const override {
    std::vector<share> shares(static_cast<std::size_t>(r.ranks));
    pw::in_process::run(plan,
                        [&](pw::in_process::endpoint& here) {
                          endpoint_of end(here);
                          shares[static_cast<std::size_t>(here.rank())] = part_of(end);
                        },
                        {.mode = pw::in_process::buffered, .deadline = r.deadline});
    return shares;
  }
};

}  // namespace trainer
