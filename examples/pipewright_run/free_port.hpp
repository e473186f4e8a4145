// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdio>
#include <random>

#include <netinet/in.h>
#include <sys/socket.h>

#include "descriptor.hpp"

namespace runner {

/// Whether a TCP server could listen on the port now, on all addresses.
inline bool is_free(int port) {
  auto can_bind = [](int family, auto address) {
    descriptor const probe(socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!probe) return family == AF_INET6;  // a machine without IPv6
    return bind(probe.get(), reinterpret_cast<sockaddr const*>(&address), sizeof address) == 0;
  };
  sockaddr_in four{};
  four.sin_family = AF_INET;
  four.sin_port = htons(static_cast<std::uint16_t>(port));
  sockaddr_in6 six{};
  six.sin6_family = AF_INET6;
  six.sin6_port = four.sin_port;
  return can_bind(AF_INET, four) && (can_bind(AF_INET6, six) || errno != EADDRINUSE);
}

/// A port on which nobody listens, below those that Linux gives to outgoing connections, so that none of these takes it
/// before rank 0 does.
inline int free_port() {
  int end = 32768;
  if (auto* const file = std::fopen("/proc/sys/net/ipv4/ip_local_port_range", "re")) {
    if (std::fscanf(file, "%d", &end) != 1) end = 32768;
    std::fclose(file);
  }
  std::random_device seed;
  std::mt19937 random(seed());
  std::uniform_int_distribution<int> any(10000, std::clamp(end - 1, 11000, 65535));
  for (int i = 0; i < 1000; ++i)
    if (auto const port = any(random); is_free(port)) return port;
  throw pipewright::error("no TCP port is free on this machine");
}

}  // namespace runner
