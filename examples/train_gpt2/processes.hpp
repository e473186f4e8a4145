// SPDX-License-Identifier: Apache-2.0
// Where the ranks of a training run: threads of this process, or processes, this one being one of them.
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

#include <pipewright/plan/plan_view.hpp>
#include <pipewright/transport/in_process.hpp>
#include <pipewright/transport/wire/endpoint.hpp>

#include "endpoint.hpp"
#include "request.hpp"
#include "share.hpp"
#include "told_to_end.hpp"

namespace trainer {

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
  /// Runs the part of each rank that this process is. All shares, on rank 0; none on others. Throws what ended a rank.
  virtual std::vector<share> run(request const& r, pw::plan_view plan, part const& part_of) const = 0;

 protected:
  /// The same for one rank, over a link between processes.
  template<pw::wire::link Link> static std::vector<share> run_over(Link& over, request const& r, part const& part_of) {
    auto const& told_to_end = note_sigterm();
    pw::wire::endpoint<Link> here(over, {.deadline = r.deadline, .told_to_end = &told_to_end});
    endpoint_of end(here, &told_to_end);
    return gathered(end, part_of(end));
  }
};

/// A thread a rank.
class threads final : public processes {
 public:
  int rank() const override { return 0; }
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
