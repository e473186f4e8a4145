// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <memory>
#include <string>

#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <unistd.h>

namespace pipewright::inline v0::gloo::detail {

inline bool is_loopback(std::string const& address) {
  return address.empty() || address == "localhost" || address == "::1" || address.starts_with("127.");
}

/// An address as digits; empty where it is of no network.
inline std::string digits_of(sockaddr const* at) {
  char text[NI_MAXHOST] = "";
  socklen_t const size = at->sa_family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  if (at->sa_family != AF_INET && at->sa_family != AF_INET6) return {};
  return getnameinfo(at, size, text, sizeof text, nullptr, 0, NI_NUMERICHOST) == 0 ? text : std::string();
}

/// This host's address on the way to another host, by the table of routes; nothing is sent. Empty where there is no way.
inline std::string address_towards(std::string const& host) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_DGRAM;
  if (getaddrinfo(host.c_str(), "9", &hints, &found) != 0) return {};
  std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> const all(found, &freeaddrinfo);
  for (auto const* each = found; each != nullptr; each = each->ai_next) {
    int const probe = socket(each->ai_family, each->ai_socktype | SOCK_CLOEXEC, each->ai_protocol);
    if (probe < 0) continue;
    sockaddr_storage own{};
    socklen_t size = sizeof own;
    auto* const at = reinterpret_cast<sockaddr*>(&own);
    bool const is_there = connect(probe, each->ai_addr, each->ai_addrlen) == 0 && getsockname(probe, at, &size) == 0;
    close(probe);
    if (is_there) return digits_of(at);
  }
  return {};
}

/// The first address of this host under which others may reach it; empty where it has no network.
inline std::string first_address() {
  ifaddrs* found = nullptr;
  if (getifaddrs(&found) != 0) return {};
  std::unique_ptr<ifaddrs, decltype(&freeifaddrs)> const all(found, &freeifaddrs);
  for (auto const* each = found; each != nullptr; each = each->ifa_next)
    if (each->ifa_addr != nullptr && each->ifa_addr->sa_family == AF_INET && (each->ifa_flags & IFF_UP) != 0 &&
        (each->ifa_flags & IFF_LOOPBACK) == 0)
      return digits_of(each->ifa_addr);
  return {};
}

/// The address at which a rank is reached by others, who meet at `meeting_at`: on one machine the loopback. Else the one that
/// looks that way; where that is the loopback still, the meeting's host being this one and having its name from /etc/hosts as
/// Debian writes it, the first of its network.
inline std::string own_address(std::string const& meeting_at) {
  if (is_loopback(meeting_at)) return "127.0.0.1";
  auto own = address_towards(meeting_at);
  if (is_loopback(own)) own = first_address();
  return own.empty() ? "127.0.0.1" : own;
}

/// The network device: that of GLOO_SOCKET_IFNAME, as PyTorch has it, or else the one of own_address.
inline auto device(std::string const& meeting_at) {
  if (char const* const name = std::getenv("GLOO_SOCKET_IFNAME"); name != nullptr && *name != '\0')
    return c10d::ProcessGroupGloo::createDeviceForInterface(name);
  return c10d::ProcessGroupGloo::createDeviceForHostname(own_address(meeting_at));
}

}  // namespace pipewright::inline v0::gloo::detail
