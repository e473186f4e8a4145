// SPDX-License-Identifier: Apache-2.0
#pragma once
// Stands in for Gloo's headers, which LibTorch does not bring though its ProcessGroupGloo.hpp asks for them. That header holds
// Gloo's objects by pointers, so that names suffice; the one class that it derives from is made inside of LibTorch only.

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace gloo {

class Context {
 public:
  void setTimeout(std::chrono::milliseconds timeout);
};

namespace transport {
class Device;
class UnboundBuffer;
}  // namespace transport

namespace rendezvous {
class Store {
 public:
  virtual ~Store() = default;
  virtual void set(std::string const& key, std::vector<char> const& value) = 0;
  virtual std::vector<char> get(std::string const& key) = 0;
  virtual void wait(std::vector<std::string> const& keys) = 0;
  virtual void wait(std::vector<std::string> const& keys, std::chrono::milliseconds const& timeout) = 0;
};
}  // namespace rendezvous

}  // namespace gloo
