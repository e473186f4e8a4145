// SPDX-License-Identifier: Apache-2.0
// What is not a transport, or cannot travel, is told what it lacks. With no case selected this file compiles: the control.
//
// expect rankless: pipewright: transport lacks int rank() const or int size() const; it stands for one rank's end of all channels
// expect without_channels: pipewright: transport lacks int open(channel_key), ticket post(int channel, message) or ticket send(int channel, message); all three return at once, waiting is wait(ticket)
// expect without_waits: pipewright: transport lacks bool poll(ticket), wait(ticket) or progress()
// expect without_control: pipewright: transport lacks agree(std::string_view), or abort(std::string_view) that is noexcept; abort frees every rank that waits
// expect throwing_abort: pipewright: transport lacks agree(std::string_view), or abort(std::string_view) that is noexcept
// expect hidden_parts: pipewright: this boundary type does not say what it is made of; give it a member void for_each_part(auto&& visit)
// expect unswappable: pipewright: a boundary type is exchanged between slots, so it must be swappable (movable, or with a swap of its own)
#include <memory>

#include <pipewright/transport/explain.hpp>

namespace pw = pipewright;

struct rankless {};
struct without_channels {
  int rank() const { return 0; }
  int size() const { return 1; }
};
struct without_waits : without_channels {
  int open(pw::channel_key) { return 0; }
  pw::ticket post(int, pw::message) { return {}; }
  pw::ticket send(int, pw::message) { return {}; }
};
struct without_control : without_waits {
  bool poll(pw::ticket) { return true; }
  void wait(pw::ticket) {}
  void progress() {}
};
struct throwing_abort : without_control {
  void agree(std::string_view) {}
  void abort(std::string_view) {}
};
struct whole : without_control {
  void agree(std::string_view) {}
  void abort(std::string_view) noexcept {}
};
static_assert(pw::explain_transport<whole>());

struct hidden {
  std::unique_ptr<float> values;
};

struct unswappable {
  unswappable(unswappable&&) = delete;
  float values[4];
  void for_each_part(auto&& visit) const { visit(values); }
};

int main() {
#if defined(PIPEWRIGHT_CASE_rankless)
  return pw::explain_transport<rankless>();
#elif defined(PIPEWRIGHT_CASE_without_channels)
  return pw::explain_transport<without_channels>();
#elif defined(PIPEWRIGHT_CASE_without_waits)
  return pw::explain_transport<without_waits>();
#elif defined(PIPEWRIGHT_CASE_without_control)
  return pw::explain_transport<without_control>();
#elif defined(PIPEWRIGHT_CASE_throwing_abort)
  return pw::explain_transport<throwing_abort>();
#elif defined(PIPEWRIGHT_CASE_hidden_parts)
  return static_cast<int>(pw::bytes_of(hidden{}));
#elif defined(PIPEWRIGHT_CASE_unswappable)
  return static_cast<int>(pw::detail::message_type_of<unswappable>.name.size());
#endif
}
