// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <utility>

#include <pipewright/transport/transport.hpp>

namespace pipewright::inline v0 {

/// Any transport, its own type forgotten, so that a pipeline over several is compiled once:
///
///   void train(pipewright::any_transport& here);
///   ...
///   pipewright::any_transport_of over(here);
///   train(over);
///
/// Costs an indirect call for each of its functions. `locate` and `computing` go to transports that have them.
class any_transport {
 public:
  any_transport() = default;
  any_transport(any_transport const&) = delete;
  any_transport& operator=(any_transport const&) = delete;
  virtual ~any_transport() = default;

  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual int open(channel_key key) = 0;
  virtual ticket post(int channel, message slot) = 0;
  virtual ticket send(int channel, message value) = 0;
  virtual bool poll(ticket of) = 0;
  virtual void wait(ticket of) = 0;
  virtual void progress() = 0;
  virtual void agree(std::string_view digest) = 0;
  virtual void abort(std::string_view why) noexcept = 0;
  virtual void locate(std::function<std::string()> where) = 0;
  virtual void computing(bool begins) noexcept = 0;
};
static_assert(transport<any_transport>);

/// Passes everything on to a T, which outlives it. `Base` is any_transport, or what a program derives from it.
template<transport T, class Base = any_transport> class any_transport_of : public Base {
 public:
  explicit any_transport_of(T& here) : here_{here} {}

  int rank() const override { return here_.rank(); }
  int size() const override { return here_.size(); }
  int open(channel_key key) override { return here_.open(key); }
  ticket post(int channel, message slot) override { return here_.post(channel, slot); }
  ticket send(int channel, message value) override { return here_.send(channel, value); }
  bool poll(ticket of) override { return here_.poll(of); }
  void wait(ticket of) override { here_.wait(of); }
  void progress() override { here_.progress(); }
  void agree(std::string_view digest) override { here_.agree(digest); }
  void abort(std::string_view why) noexcept override { here_.abort(why); }
  void locate(std::function<std::string()> where) override {
    if constexpr (requires { here_.locate(std::move(where)); }) here_.locate(std::move(where));
  }
  void computing(bool begins) noexcept override {
    if constexpr (requires { here_.computing(begins); }) here_.computing(begins);
  }

 private:
  T& here_;
};

}  // namespace pipewright::inline v0
