// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <string>

#include <c10/util/Exception.h>
#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <pipewright/error.hpp>

namespace pipewright::inline v0::gloo {

using store = c10::intrusive_ptr<c10d::Store>;

/// A store's part for one run, or for one of its links: what others keep in it is not met.
inline store part_of(store const& whole, std::string const& name) {
  return c10::make_intrusive<c10d::PrefixStore>(name, whole);
}

/// The store through which the processes of a job find one another: c10d's, at the address and port of a launch::place
/// (whatever has its members). Rank 0 serves it, unless somebody does already: torchrun's agent listens at MASTER_PORT itself.
/// A job of one process needs no place. Throws error where there is none to meet at, or nobody within `seconds`.
template<class Place> store store_of(Place const& here, double seconds = 60) {
  if (here.size == 1) return c10::make_intrusive<c10d::HashStore>();
  if (!here.has_rendezvous())
    throw error(
        "nobody says where the ranks meet: set MASTER_ADDR and MASTER_PORT, or start the program with pipewright-run "
        "or "
        "torchrun");
  c10d::TCPStoreOptions options;
  options.port = static_cast<std::uint16_t>(here.port);
  options.isServer = here.rank == 0 && !here.store_is_served;
  options.waitWorkers = false;
  options.timeout = std::chrono::milliseconds(static_cast<std::int64_t>(1e3 * seconds));
  try {
    return part_of(c10::make_intrusive<c10d::TCPStore>(here.address, options), "pipewright/" + here.run_id);
  } catch (c10::Error const& fault) {
    throw error("rank " + std::to_string(here.rank) + " does not come to the store at " + here.address + ":" +
                std::to_string(here.port) + ": " + fault.what_without_backtrace());
  } catch (std::exception const& fault) {
    throw error("rank " + std::to_string(here.rank) + " does not come to the store at " + here.address + ":" +
                std::to_string(here.port) + ": " + fault.what());
  }
}

/// The same in a file that all processes see, a new one for each run.
inline store store_in(std::string const& file, int size) { return c10::make_intrusive<c10d::FileStore>(file, size); }

}  // namespace pipewright::inline v0::gloo
