// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/launch/detail/claim.hpp>

namespace pipewright::inline v0::launch::detail {

inline bool is_true(reader const& read, std::string const& name) {
  auto const value = read.text(name).value_or("False");
  if (value == "True" || value == "true" || value == "1") return true;
  if (value == "False" || value == "false" || value == "0") return false;
  throw error(name + "=" + value + " is neither True nor False: correct it or unset it");
}

/// Fills in where ranks meet: each of address, port and run id from the first who says it. They need not agree: a port
/// of one's own beside MASTER_PORT is what somebody wants whose MASTER_PORT is served by torchrun.
inline void set_rendezvous(place& here, reader const& read, arguments const& given, std::vector<claim> const& claims) {
  auto says = [&](source from) {
    return std::any_of(claims.begin(), claims.end(), [&](claim const& c) { return c.from == from; });
  };
  std::string address_by, port_by;
  auto set_address = [&](std::optional<std::string> const& address, std::string const& by) {
    if (!address || !address_by.empty()) return;
    if (address->empty() || address->find_first_of(std::string(" \t\r\n\v\f\0", 7)) != address->npos)
      throw error(by + "='" + *address + "' is not the name or address of a host: correct it or leave it out");
    here.address = *address;
    address_by = by + "=" + *address;
  };
  auto set_port = [&](std::optional<said<int>> const& port) {
    if (!port || !port_by.empty()) return;
    here.port = port->value;
    port_by = port->by;
  };
  auto set_run_id = [&](std::optional<std::string> const& id) {
    if (id && here.run_id.empty()) here.run_id = *id;
  };

  set_address(given.address, "argument address");
  if (given.port) set_port(in_range(*given.port, "argument port=" + std::to_string(*given.port), 1, 65535));
  set_run_id(given.run_id);
  set_address(read.text("PIPEWRIGHT_ADDRESS"), "PIPEWRIGHT_ADDRESS");
  set_port(read.integer("PIPEWRIGHT_PORT", 1, 65535));
  set_run_id(read.text("PIPEWRIGHT_RUN_ID"));

  auto const master_port = read.integer("MASTER_PORT", 1, 65535);
  bool const master_meets = port_by.empty() && address_by.empty() && master_port;
  set_address(read.text("MASTER_ADDR"), "MASTER_ADDR");
  set_port(master_port);
  here.store_is_served = is_true(read, "TORCHELASTIC_USE_AGENT_STORE") && master_meets && !address_by.empty();
  if (auto const id = read.text("TORCHELASTIC_RUN_ID"); id && says(source::torchrun)) {
    auto const restart = read.integer("TORCHELASTIC_RESTART_COUNT");
    set_run_id(*id + (restart ? "." + std::to_string(restart->value) : ""));  // nothing of an earlier attempt is met
  }

  if (says(source::open_mpi)) set_run_id(read.text("PMIX_NAMESPACE"));
  if (says(source::mpich)) set_run_id(read.text("PMI_JOBID"));

  if (says(source::slurm)) {
    auto const job = read.number("SLURM_JOB_ID", 0, std::numeric_limits<std::int64_t>::max());
    auto const step = read.number("SLURM_STEP_ID", 0, std::numeric_limits<std::int64_t>::max());
    if (job) {
      auto const step_id = step ? step->value : 0;
      auto const hosts = read.text("SLURM_STEP_NODELIST");
      if (hosts && address_by.empty()) {
        try {
          set_address(slurm::first_host(*hosts), "SLURM_STEP_NODELIST");
        } catch (error const& fault) {
          throw error(std::string("SLURM_STEP_NODELIST: ") + fault.what());
        }
      }
      set_address(read.text("SLURM_LAUNCH_NODE_IPADDR"), "SLURM_LAUNCH_NODE_IPADDR");
      auto const port = slurm::port_of(static_cast<std::uint64_t>(job->value), static_cast<std::uint64_t>(step_id));
      if (!address_by.empty()) set_port(said<int>{port, job->by});
      set_run_id(std::to_string(job->value) + "." + std::to_string(step_id));
    }
  }
  if (address_by.empty() != port_by.empty())
    throw error((port_by.empty() ? address_by : port_by) + " is given but " +
                (port_by.empty() ? "no port is: set MASTER_PORT or PIPEWRIGHT_PORT"
                                 : "no address is: set MASTER_ADDR or PIPEWRIGHT_ADDRESS"));
}

}  // namespace pipewright::inline v0::launch::detail
