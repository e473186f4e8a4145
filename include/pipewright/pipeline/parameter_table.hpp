// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/pipeline/parameter_operations.hpp>
#include <pipewright/pipeline/remote_operations.hpp>
#include <pipewright/stage/parameters.hpp>

namespace pipewright::inline v0::detail {

/// One parameter of a stage, wherever its versions, gradients and optimizer states are.
struct parameter_record {
  std::string name;
  parameter_options options;
  std::size_t size = 0;           ///< elements
  std::size_t version_bytes = 0;  ///< of one version
  parameter_operations const* on = nullptr;
  std::vector<void*> versions;
  std::vector<void*> gradients;
  std::vector<void*> states;
  std::vector<std::shared_ptr<void>> kept;  ///< owns the states

  /// Calls use(spans) with a version's values, by its physical copy, then the first `States` arrays that the optimizer
  /// keeps; remote ones as copies, which are written back. Throws error where the elements are no T by their size.
  template<class T, std::size_t States> void on_host(int copy, auto&& use) const {
    if (sizeof(T) != on->element_bytes)
      throw error("an element of parameter " + name + " has " + std::to_string(on->element_bytes) + " bytes, not " +
                  std::to_string(sizeof(T)) + "; name its type: for_each_parameter<double>(visit)");
    std::array<std::span<T>, 1 + States> all;
    std::array<std::vector<T>, 1 + States> copies;
    auto const address = [&](std::size_t i) {
      return i == 0 ? versions[static_cast<std::size_t>(copy)] : states[i - 1];
    };
    for (std::size_t i = 0; i != all.size(); ++i) {
      if (on->read == nullptr) {
        all[i] = {static_cast<T*>(address(i)), size};
        continue;
      }
      copies[i].resize(size);
      on->read(address(i), copies[i].data(), size);
      all[i] = copies[i];
    }
    use(all);
    if (on->write == nullptr) return;
    for (std::size_t i = 0; i != all.size(); ++i) on->write(copies[i].data(), address(i), size);
  }
};

/// The parameters of a stage, collected once: nothing is looked up or allocated afterwards. `versions` and `gradients` stay
/// where they are.
template<class Optimizer, class Weights, class Gradients>
std::vector<parameter_record> parameters_of(std::vector<Weights>& versions, std::vector<Gradients>& gradients) {
  std::vector<parameter_record> table;
  for (Weights& w : versions) {
    std::size_t i = 0;
    w.for_each_parameter(keeping{[&](std::string_view name, auto values, parameter_options options) {
      if (&w == &versions.front()) {
        parameter_record& made = table.emplace_back();
        made.name = name;
        made.options = options;
        made.size = values.size();
        made.on = operations_of<Optimizer>(values);
        if constexpr (requires { values.bytes(); }) made.version_bytes = values.bytes();
        else made.version_bytes = made.size * made.on->element_bytes;
        for (std::size_t s = 0; s != Optimizer::states; ++s)
          made.states.push_back(made.kept.emplace_back(made.on->zeros(address_of(values), made.size)).get());
      }
      table[i++].versions.push_back(address_of(values));
    }});
  }
  for (Gradients& g : gradients) {
    std::size_t i = 0;
    g.for_each_parameter(keeping{[&](std::string_view name, auto values, parameter_options) {
      if (i >= table.size() || values.size() != table[i].size)
        throw error("gradients visit other parameters than weights at " + std::string(name) +
                    "; for_each_parameter of both must agree in order and size");
      table[i++].gradients.push_back(address_of(values));
    }});
    if (i != table.size())
      throw error(
          "gradients visit fewer parameters than weights; for_each_parameter of both must agree in order and size");
  }
  return table;
}

}  // namespace pipewright::inline v0::detail
