// SPDX-License-Identifier: Apache-2.0
// The processes of a training: this one alone, with threads for ranks, or those of an mpirun, each a rank.
#pragma once

#include <algorithm>
#include <climits>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <pipewright/error.hpp>

#include "told_to_end.hpp"
#include "training.hpp"

#ifdef TRAINER_HAS_MPI
#include <pipewright/mpi/link.hpp>
#endif

namespace trainer {

namespace detail {

template<class T> nlohmann::json bytes_of(std::vector<T> const& values) {
  auto const* const from = reinterpret_cast<std::uint8_t const*>(values.data());
  return nlohmann::json::binary({from, from + values.size() * sizeof(T)});
}
template<class T> std::vector<T> values_of(nlohmann::json const& bytes) {
  auto const& from = bytes.get_binary();
  std::vector<T> values(from.size() / sizeof(T));
  if (!from.empty()) std::memcpy(values.data(), from.data(), from.size());
  return values;
}

/// A share as bytes, for processes of one program on machines of one kind.
inline std::vector<std::uint8_t> packed(share const& s) {
  nlohmann::json j{{"losses", bytes_of(s.losses)},
                   {"held_out", bytes_of(s.held_out)},
                   {"step_seconds", s.step_seconds},
                   {"tokens_per_second", s.tokens_per_second},
                   {"activation_bytes", s.activation_bytes},
                   {"weight_bytes", s.weight_bytes},
                   {"sent_bytes", s.sent_bytes},
                   {"actions", bytes_of(s.actions)},
                   {"stretches", bytes_of(s.stretches)},
                   {"weights", nlohmann::json::object()}};
  for (auto const& [name, values] : s.weights) j["weights"][name] = bytes_of(values);
  return nlohmann::json::to_cbor(j);
}
inline share unpacked(std::vector<std::uint8_t> const& bytes) {
  auto const j = nlohmann::json::from_cbor(bytes);
  share s{.losses = values_of<double>(j["losses"]),
          .held_out = values_of<held_out_loss>(j["held_out"]),
          .step_seconds = j["step_seconds"],
          .tokens_per_second = j["tokens_per_second"],
          .activation_bytes = j["activation_bytes"],
          .weight_bytes = j["weight_bytes"],
          .sent_bytes = j["sent_bytes"],
          .actions = values_of<pw::timed_action>(j["actions"]),
          .stretches = values_of<stretch>(j["stretches"]),
          .weights = {}};
  for (auto const& [name, values] : j["weights"].items()) s.weights[name] = values_of<float>(values);
  return s;
}

}  // namespace detail

#ifdef TRAINER_HAS_MPI

class processes {
 public:
  explicit processes(request const& r) {
    if (r.transport != "mpi") return;
    mpi_.emplace();
    over_.emplace();
    if (over_->size() != r.ranks)
      throw pw::error(
          fmt::format("mpirun started {} process{}, but --ranks is {}; start as many: mpirun -np {} train_gpt2 ...",
                      over_->size(), over_->size() == 1 ? "" : "es", r.ranks, r.ranks));
  }
  int rank() const { return over_ ? over_->rank() : 0; }

  /// The outcome, on rank 0 whole.
  outcome run(auto& training, request const& r, prospect const& p) const {
    if (!over_) return training.run();
    share mine;
    {
      pw::mpi::endpoint here(*over_, {.deadline = r.deadline, .told_to_end = &note_sigterm()});
      mine = training.run_rank(here);
    }
    std::vector<std::uint8_t> const own = detail::packed(mine);
    auto const ranks = static_cast<std::size_t>(r.ranks);
    unsigned long long const length = own.size();
    std::vector<unsigned long long> lengths(ranks);
    MPI_Gather(&length, 1, MPI_UNSIGNED_LONG_LONG, lengths.data(), 1, MPI_UNSIGNED_LONG_LONG, 0, MPI_COMM_WORLD);
    std::vector<share> shares(ranks);
    for (int from = 1; from < r.ranks; ++from) {  // one at a time, in pieces: MPI counts in int
      std::vector<std::uint8_t> theirs(rank() == 0 ? lengths[static_cast<std::size_t>(from)] : 0);
      std::size_t const all = rank() == 0 ? theirs.size() : rank() == from ? own.size() : 0;
      for (std::size_t at = 0; at < all; at += pw::wire::max_bytes) {
        int const piece = static_cast<int>(std::min(all - at, pw::wire::max_bytes));
        if (rank() == 0) MPI_Recv(theirs.data() + at, piece, MPI_BYTE, from, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
        else MPI_Send(own.data() + at, piece, MPI_BYTE, 0, 0, MPI_COMM_WORLD);
      }
      if (rank() == 0) shares[static_cast<std::size_t>(from)] = detail::unpacked(theirs);
    }
    if (rank() != 0) return {};
    shares.front() = std::move(mine);
    return joined(p.plan.view(), std::move(shares));
  }

 private:
  std::optional<pw::mpi::environment> mpi_;
  mutable std::optional<pw::mpi::link> over_;
};

#else

class processes {
 public:
  explicit processes(request const& r) {
    if (r.transport == "mpi")
      throw pw::error("this train_gpt2 was built without MPI; install it (Debian: libopenmpi-dev) and build again");
  }
  static int rank() { return 0; }
  static outcome run(auto& training, request const&, prospect const&) { return training.run(); }
};

#endif

}  // namespace trainer
