// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <unordered_map>
#include <unordered_set>
#include <utility>
#include <vector>

#include <ATen/core/Tensor.h>
#include <c10/util/DimVector.h>
#include <torch/csrc/autograd/edge.h>
#include <torch/csrc/autograd/engine.h>
#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/functions/accumulate_grad.h>
#include <torch/csrc/autograd/variable.h>

#include <pipewright/error.hpp>

namespace pipewright::inline v0::libtorch::detail {

/// Where the graph of something that forward gave begins. That itself may be sent, and gone.
struct graph_root {
  torch::autograd::Edge edge;  ///< none where it has no graph
  at::ScalarType dtype = at::ScalarType::Undefined;
  c10::DimVector sizes;
  std::optional<at::Device> device;

  graph_root() = default;
  explicit graph_root(at::Tensor const& output) {
    if (!output.defined() || !output.requires_grad()) return;
    edge = torch::autograd::impl::gradient_edge(output);
    dtype = output.scalar_type();
    sizes.assign(output.sizes().begin(), output.sizes().end());
    device = output.device();
  }
};

/// The ends of a graph that are these leaves.
inline auto edges_of(std::vector<at::Tensor> const& leaves) -> torch::autograd::edge_list {
  torch::autograd::edge_list edges;
  edges.reserve(leaves.size());
  for (at::Tensor const& each : leaves) {
    if (!each.requires_grad())
      throw error(
          "a parameter has stopped to require a gradient since its stage was made; freeze it before, or by options_of");
    edges.emplace_back(torch::autograd::impl::grad_accumulator(each), 0);
  }
  return edges;
}

/// What backward's first half leaves for the second: for every parameter the node of the graph at which its way leaves the
/// way from the outputs to the inputs, with the gradients that came there. (The idea of torch.distributed.pipelining's split,
/// after Zero Bubble, arXiv 2401.10241.) All else of the graph is freed between the halves.
class split_graph {
  using node = torch::autograd::Node;
  using node_pointer = decltype(torch::autograd::Edge::function);
  using tensors = std::vector<at::Tensor>;

 public:
  /// The first half: the gradients of `leaves`, from those of what the graph's roots gave. `parameters` require a gradient; both
  /// halves together give what one backward gives, bit for bit. A parameter that is used at several places of the way is
  /// finished here, since only one run adds its gradients up in backward's order; so is one that is on no way from the leaves.
  tensors backward_input(torch::autograd::edge_list const& roots, tensors const& gradients, tensors const& leaves,
                         tensors const& parameters) {
    groups_.clear();
    finished_.clear();
    look_at(roots);
    auto const ends = edges_of(leaves);  // held: a leaf that nothing depends on has a node only as long
    std::vector<node*> nodes;
    for (auto const& each : ends) nodes.push_back(each.function.get());
    auto const way = above(std::move(nodes), {});
    std::unordered_map<node*, std::size_t> group_of;
    tensors wanted = leaves;
    std::vector<std::size_t> wanted_parameters;
    for (std::size_t i = 0; i < parameters.size(); ++i) {
      auto const leaf = edges_of({parameters[i]}).front().function;
      auto const met = above({leaf.get()}, way);
      node* only = nullptr;
      int places = 0;
      for (node* each : met)
        if (way.contains(each)) only = each, ++places;
      if (places == 1) {
        auto const [at, is_new] = group_of.try_emplace(only, groups_.size());
        if (is_new) groups_.push_back({kept_.at(only), std::make_shared<tensors>(), {}, {}});
        groups_[at->second].parameters.push_back(i);
        groups_[at->second].leaves.push_back(leaf);
      } else {
        wanted.push_back(parameters[i]);
        wanted_parameters.push_back(i);
      }
    }
    for (group const& each : groups_) each.at->add_pre_hook(std::make_unique<capture>(each.gradients));
    auto found =
        torch::autograd::Engine::get_default_engine().execute(roots, gradients, true, false, false, edges_of(wanted));
    for (std::size_t i = 0; i < wanted_parameters.size(); ++i)
      finished_.emplace_back(wanted_parameters[i], std::move(found[leaves.size() + i]));
    found.resize(leaves.size());
    for (node* each : way)
      if (!group_of.contains(each) && dynamic_cast<torch::autograd::AccumulateGrad*>(each) == nullptr)
        each->release_variables();  // else a group's node keeps all that came before it
    above_.clear();
    kept_.clear();
    return found;
  }

  /// The second half: calls add(index of parameter, gradient), and keeps nothing.
  void backward_weight(auto&& add) {
    for (auto const& [parameter, gradient] : finished_)
      if (gradient.defined()) add(parameter, gradient);
    finished_.clear();
    for (group& each : groups_) {
      torch::autograd::edge_list from, to;
      tensors gradients;
      for (std::size_t i = 0; i < each.gradients->size(); ++i)
        if ((*each.gradients)[i].defined()) {
          from.emplace_back(each.at, static_cast<std::uint32_t>(i));
          gradients.push_back((*each.gradients)[i]);
        }
      for (node_pointer const& leaf : each.leaves) to.emplace_back(leaf, 0);
      auto const found = gradients.empty() ? tensors(to.size())
                                           : torch::autograd::Engine::get_default_engine().execute(
                                                 from, gradients, false, false, false, to);
      for (std::size_t i = 0; i < found.size(); ++i)
        if (found[i].defined()) add(each.parameters[i], found[i]);
      each = {};
    }
    groups_.clear();
  }

 private:
  struct group {
    node_pointer at;
    std::shared_ptr<tensors> gradients;  ///< by the node's slots
    std::vector<std::size_t> parameters;
    std::vector<node_pointer> leaves;  ///< the parameters' nodes
  };
  struct capture final : torch::autograd::FunctionPreHook {
    std::shared_ptr<tensors> into;
    explicit capture(std::shared_ptr<tensors> to) : into{std::move(to)} {}
    tensors operator()(tensors const& gradients) override {
      *into = gradients;
      return gradients;
    }
  };
  using set = std::unordered_set<node*>;

  /// Finds every node's users.
  void look_at(torch::autograd::edge_list const& roots) {
    above_.clear();
    kept_.clear();
    std::vector<node*> open;
    auto const meet = [&](node_pointer const& each) {
      if (kept_.try_emplace(each.get(), each).second) open.push_back(each.get());
    };
    for (auto const& each : roots) meet(each.function);
    while (!open.empty()) {
      node* const user = open.back();
      open.pop_back();
      for (auto const& edge : user->next_edges())
        if (edge.is_valid()) {
          above_[edge.function.get()].push_back(user);
          meet(edge.function);
        }
    }
  }
  /// All nodes from which these can be come to; the search does not go on above those in `ends`.
  set above(std::vector<node*> open, set const& ends) const {
    set found(open.begin(), open.end());
    while (!open.empty()) {
      node* const each = open.back();
      open.pop_back();
      if (ends.contains(each)) continue;
      if (auto const users = above_.find(each); users != above_.end())
        for (node* user : users->second)
          if (found.insert(user).second) open.push_back(user);
    }
    return found;
  }

  std::unordered_map<node*, std::vector<node*>> above_;
  std::unordered_map<node*, node_pointer> kept_;
  std::vector<group> groups_;
  std::vector<std::pair<std::size_t, at::Tensor>> finished_;
};

}  // namespace pipewright::inline v0::libtorch::detail
