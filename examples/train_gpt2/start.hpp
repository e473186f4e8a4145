// SPDX-License-Identifier: Apache-2.0
// The processes that a command line asks for.
#pragma once

#include <charconv>
#include <memory>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include <pipewright/error.hpp>
#include <pipewright/gpt2/host/gemm.hpp>
#include <pipewright/launch/launch.hpp>

#include "libtorch_half.hpp"
#include "processes.hpp"
#include "request.hpp"

#ifdef TRAINER_HAS_MPI
#include "over_mpi.hpp"
#endif

namespace trainer {

namespace detail {

/// Which process this is, as the options say, or else a launcher.
inline pw::launch::place place_of(request const& r) {
  pw::launch::arguments given;
  if (r.rank) {
    given.rank = *r.rank;
    given.size = r.ranks;
  }
  if (!r.rendezvous.empty()) {
    auto const colon = r.rendezvous.rfind(':');
    auto const digits =
        colon == std::string::npos ? std::string_view() : std::string_view(r.rendezvous).substr(colon + 1);
    int port = 0;
    auto const [end, code] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
    if (code != std::errc{} || end != digits.data() + digits.size() || colon == 0)
      throw pw::error(fmt::format("--rendezvous {} is no HOST:PORT, as in localhost:29500", r.rendezvous));
    given.address = r.rendezvous.substr(0, colon);
    given.port = port;
  }
  auto here = pw::launch::find_place(given);
  check_started(here.size, r, "pipewright-run -n");
  return here;
}

/// What joins the processes: under nccl what their launcher means, since NCCL moves only what lies on GPUs.
inline std::string link_of(request const& r) {
  if (r.transport != "nccl") return r.transport;
  if (r.rank) return "gloo";
  auto const from = pw::launch::find_place().from;
  return from == pw::launch::source::open_mpi || from == pw::launch::source::mpich ? "mpi" : "gloo";
}

}  // namespace detail

/// Says how the host would compute faster, where OpenBLAS is not at its best.
inline void advise_on_blas(std::string_view program) {
  if (auto const setting = pw::gpt2::host::faster_blas(); !setting.empty())
    fmt::print(stderr, "{}: OpenBLAS does not know this processor and computes half as fast as it could; set {}\n",
               program, setting);
}

/// Joins them; throws where that cannot be. Whoever says what went wrong does so before their end.
inline std::unique_ptr<processes const> processes_of(request const& r) {
  auto const beneath = detail::link_of(r);
  if (beneath != "gloo" && (r.rank || !r.rendezvous.empty()))
    throw pw::error("--rank and --rendezvous are for --transport gloo and nccl; mpirun says it of its own");
  if (beneath == "mpi") {
#ifdef TRAINER_HAS_MPI
    return std::make_unique<mpi_processes>(r);
#else
    throw pw::error("this program was built without MPI; install it (Debian: libopenmpi-dev) and build again");
#endif
  }
  if (beneath == "gloo") {
    auto here = detail::place_of(r);
    return load_libtorch_half(("--transport " + r.transport).c_str()).over_gloo(std::move(here));
  }
  return std::make_unique<threads>();
}

}  // namespace trainer
