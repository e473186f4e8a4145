// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <pipewright/transport/sentences.hpp>
#include <pipewright/transport/wire/link.hpp>

namespace pipewright::inline v0::wire::detail {

inline constexpr int agreement_tag = 0, news_tag = 1, control_tags = 2;

/// What a rank has done with another one when it ends. Links keep the order of one tag, not of several, so that the word of an end
/// may overtake the last transfers: by these numbers the other rank knows what is still to come.
struct account {
  static constexpr std::size_t kinds = 7;  // of traffic: two tags each

  std::array<std::uint64_t, kinds> sent{}, received{};  ///< transfers that are through, by kind
  std::uint64_t said = 0;                               ///< blocks of texts
};

/// What ranks tell one another besides values: what they mean to run, that all must stop, that they are done.
template<link Link> class control {
  using request = typename Link::request;
  using block = std::array<char, 1024>;
  enum class news : char { stop = 'S', done = 'D' };

  /// A text on its way, in blocks: its length first.
  struct text_out {
    std::vector<std::unique_ptr<block>> blocks;
    std::vector<request> requests;
  };
  struct text_in {
    int peer = -1;
    std::unique_ptr<block> buffer = std::make_unique<block>();
    std::optional<request> under_way;
    std::optional<std::size_t> length;
    std::string text;
    bool is_there = false;
  };
  struct neighbour {
    std::unique_ptr<block> buffer = std::make_unique<block>();
    std::optional<request> under_way;
    bool gone = false;
    account theirs{};                   ///< once it is gone
    std::uint64_t said = 0, heard = 0;  ///< blocks of texts, to it and from it
  };

 public:
  explicit control(Link& over) : link_{over}, neighbours_(static_cast<std::size_t>(over.size())) {
    for (int peer = 0; peer < link_.size(); ++peer)
      if (peer != link_.rank()) listen(peer);
  }
  control(control const&) = delete;
  control& operator=(control const&) = delete;

  // ---- agreement ---------------------------------------------------------------------------------------------------
  void say(std::string_view text) {
    verdict_.reset();
    readers_.clear();
    own_ = text;
    if (link_.rank() == 0) {
      for (int peer = 1; peer < link_.size(); ++peer) readers_.emplace_back().peer = peer;
    } else {
      send_text(0, text);
      readers_.emplace_back().peer = 0;
    }
  }
  /// What came of it, as soon as it is known: an empty text where all said the same, else who said what.
  std::optional<std::string> const& verdict() {
    if (verdict_ || !std::ranges::all_of(readers_, &text_in::is_there)) return verdict_;
    if (link_.rank() != 0) return verdict_ = readers_.front().text;
    verdict_ = pipewright::detail::disagreement(link_.size(), [this](int rank) -> std::string_view {
      return rank == 0 ? own_ : readers_[static_cast<std::size_t>(rank - 1)].text;
    });
    for (int peer = 1; peer < link_.size(); ++peer) send_text(peer, *verdict_);
    return verdict_;
  }
  /// Who has not spoken yet.
  std::string silent() const {
    return pipewright::detail::ranks_that(link_.size(), [&](int rank) { return is_silent(rank); });
  }
  /// Who has ended without speaking; empty if nobody has.
  std::string gone_without_a_word() const {
    auto const left = [&](int rank) {
      auto const& of = neighbours_[static_cast<std::size_t>(rank)];
      return of.gone && of.heard >= of.theirs.said && is_silent(rank);
    };
    for (int rank = 0; rank < link_.size(); ++rank)
      if (left(rank)) return pipewright::detail::ranks_that(link_.size(), left);
    return {};
  }

  // ---- news --------------------------------------------------------------------------------------------------------
  bool is_gone(int rank) const { return neighbours_[static_cast<std::size_t>(rank)].gone; }
  /// What a rank that is gone has done with this one.
  account const& account_of(int rank) const { return neighbours_[static_cast<std::size_t>(rank)].theirs; }
  /// Why another rank has stopped all, once one has.
  std::optional<std::string> const& stopped() const { return stopped_; }

  void move() {
    for (auto& each : readers_) read(each);
    for (int peer = 0; peer < link_.size(); ++peer) hear(peer);
    std::erase_if(writers_, [&](text_out& each) {
      return std::ranges::all_of(each.requests, [&](request& r) { return link_.test(r); });
    });
  }

  /// Tells all others, as far as that goes in half a second.
  void stop_all(std::string_view why) noexcept {
    tell(news::stop, [why](int, char* to) { std::memcpy(to, why.data(), std::min(why.size(), sizeof(block) - 2)); });
  }
  /// Says that this rank will send and post no more, and listens no longer once the others have said so, or soon after.
  /// `account_with(rank)` is what it has done with each.
  void leave(auto&& account_with) noexcept {
    if (!stopped_ && !has_stopped_) {
      tell(news::done, [&](int peer, char* to) {
        account mine = account_with(peer);
        mine.said = neighbours_[static_cast<std::size_t>(peer)].said;
        std::memcpy(to, &mine, sizeof mine);
      });
      wait_a_little([&] {
        move();
        return std::ranges::none_of(neighbours_, [](neighbour const& each) { return each.under_way.has_value(); });
      });
    }
    for (auto& each : neighbours_)
      if (each.under_way && !link_.cancel(*each.under_way)) static_cast<void>(each.buffer.release());
    for (auto& each : readers_)
      if (each.under_way && !link_.cancel(*each.under_way)) static_cast<void>(each.buffer.release());
    for (auto& each : writers_) give_up(each);
  }

 private:
  bool is_silent(int rank) const {
    return std::ranges::any_of(readers_, [&](text_in const& each) { return each.peer == rank && !each.is_there; });
  }

  void send_text(int peer, std::string_view text) {
    auto& made = writers_.emplace_back();
    std::string all(sizeof(std::uint64_t), '\0');
    std::uint64_t const length = text.size();
    std::memcpy(all.data(), &length, sizeof length);
    all += text;
    for (std::size_t at = 0; at < all.size(); at += sizeof(block)) {
      auto& next = *made.blocks.emplace_back(std::make_unique<block>());
      std::memcpy(next.data(), all.data() + at, std::min(sizeof(block), all.size() - at));
      ++neighbours_[static_cast<std::size_t>(peer)].said;
      made.requests.push_back(link_.send(peer, agreement_tag, next.data(), sizeof(block)));
    }
  }
  void read(text_in& into) {
    while (!into.is_there) {
      if (!into.under_way) into.under_way = link_.receive(into.peer, agreement_tag, into.buffer->data(), sizeof(block));
      if (!link_.test(*into.under_way)) return;
      into.under_way.reset();
      ++neighbours_[static_cast<std::size_t>(into.peer)].heard;
      char const* from = into.buffer->data();
      std::size_t here = sizeof(block);
      if (!into.length) {
        std::uint64_t length = 0;
        std::memcpy(&length, from, sizeof length);
        into.length = length;
        from += sizeof length;
        here -= sizeof length;
      }
      into.text.append(from, std::min(here, *into.length - into.text.size()));
      into.is_there = into.text.size() == *into.length;
    }
  }

  void listen(int peer) {
    auto& from = neighbours_[static_cast<std::size_t>(peer)];
    from.under_way = link_.receive(peer, news_tag, from.buffer->data(), sizeof(block));
  }
  void hear(int peer) {
    auto& from = neighbours_[static_cast<std::size_t>(peer)];
    if (!from.under_way || !link_.test(*from.under_way)) return;
    from.under_way.reset();
    from.gone = true;
    auto const what = static_cast<news>((*from.buffer)[0]);
    if (what == news::done) std::memcpy(&from.theirs, from.buffer->data() + 1, sizeof from.theirs);
    if (what == news::stop && !stopped_)
      stopped_ = std::string(from.buffer->data() + 1, ::strnlen(from.buffer->data() + 1, sizeof(block) - 1));
  }

  /// `write(peer, to)`: what there is to say of it.
  void tell(news what, auto&& write) noexcept {
    try {
      has_stopped_ = has_stopped_ || what == news::stop;
      text_out out;
      for (int peer = 0; peer < link_.size(); ++peer) {
        if (peer == link_.rank() || is_gone(peer)) continue;
        auto& told = *out.blocks.emplace_back(std::make_unique<block>());
        told[0] = static_cast<char>(what);
        write(peer, told.data() + 1);
        out.requests.push_back(link_.send(peer, news_tag, told.data(), sizeof(block)));
      }
      auto const is_through = [&] {
        bool all = true;
        for (auto& each : out.requests) all = link_.test(each) && all;
        return all;
      };
      if (!wait_a_little(is_through)) give_up(out);
    } catch (...) {  // the link is broken: others see that themselves
    }
  }
  /// Whether it comes about within half a second. Others are at their end too, so it mostly does at once.
  bool wait_a_little(auto&& done) noexcept {
    try {
      auto const limit = std::chrono::steady_clock::now() + std::chrono::milliseconds(500);
      for (bool is_done = done();; is_done = done()) {
        if (is_done || std::chrono::steady_clock::now() > limit) return is_done;
        std::this_thread::sleep_for(std::chrono::microseconds(50));
      }
    } catch (...) {
      return false;
    }
  }
  void give_up(text_out& out) noexcept {
    bool is_free = true;
    for (auto& each : out.requests) is_free = link_.cancel(each) && is_free;
    if (!is_free)
      for (auto& each : out.blocks) static_cast<void>(each.release());  // for the rest of the process
  }

  Link& link_;
  std::vector<neighbour> neighbours_;  // by rank
  std::vector<text_in> readers_;
  std::vector<text_out> writers_;
  std::string own_;
  std::optional<std::string> verdict_, stopped_;
  bool has_stopped_ = false;
};

}  // namespace pipewright::inline v0::wire::detail
