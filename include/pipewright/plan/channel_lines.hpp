// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pipewright/plan/channels.hpp>

namespace pipewright::inline v0::detail {

/// What receivers have posted on each channel, in order, and how much of it has been sent: channels with zero buffering.
class channel_lines {
 public:
  struct line {
    action* posts;
    int capacity, posted, sent;
    int source, destination;  // ranks
  };
  enum class met : char { nobody, another, yes };

  /// `updates` that every stage does.
  constexpr channel_lines(plan_view const& p, channel_table const& channels, int updates)
      : count_{channels.count()}, lines_(static_cast<std::size_t>(count_)), line_{lines_.data()} {
    // No channel is posted to more often than once for each boundary and micro-batch, or for each update.
    for (int s = 0; s < p.stages(); ++s)
      for (kind const k : {kind::post_forward, kind::post_backward})
        if (int const c = channels.of(make_action(k, s, 0)); c >= 0) line_[c].capacity += p.facts.total_micro_batches();
    std::size_t posts = 0;
    for (int c = 0; c < count_; ++c) {
      if (channels.key(c).carries >= traffic::tied_gradient) line_[c].capacity = updates;
      posts += static_cast<std::size_t>(line_[c].capacity);
    }
    posts_ = block<action>(posts);
    action* next = posts_.data();
    for (int c = 0; c < count_; ++c) {
      line_[c] = {next, line_[c].capacity, 0, 0, channels.key(c).source, channels.key(c).destination};
      next += line_[c].capacity;
    }
  }

  constexpr line const& of(int channel) const { return line_[channel]; }

  /// False where nothing more can be meant: posted twice for one update.
  constexpr bool post(int channel, action const& a) {
    line& l = line_[channel];
    if (l.posted == l.capacity) return false;
    l.posts[l.posted++] = a;
    return true;
  }
  /// Sends to a stage, if somebody waits for that.
  constexpr met send(int channel, int stage, int micro_batch) {
    line& l = line_[channel];
    if (l.posted == l.sent) return met::nobody;
    action const& next = l.posts[l.sent];
    if (next.stage != stage || next.micro_batch != micro_batch) return met::another;
    ++l.sent;
    return met::yes;
  }
  /// Whether the message that a WAIT of the exchange is for has come; `another`: it was never posted.
  constexpr met landed(int channel, action a) const {
    a.what = static_cast<kind>(static_cast<int>(a.what) - 1);  // its POST stands before WAIT in the enumeration
    line const& l = line_[channel];
    for (int k = l.sent; k < l.posted; ++k)
      if (l.posts[k] == a) return met::nobody;
    for (int k = l.sent; k-- > 0;)
      if (l.posts[k] == a) return met::yes;
    return met::another;
  }
  /// The first channel with a receive that nobody has sent to, or -1.
  constexpr int left_open() const {
    for (int c = 0; c < count_; ++c)
      if (line_[c].posted != line_[c].sent) return c;
    return -1;
  }
  /// Whether what is open is what was open in `earlier`, so many micro-batches later.
  constexpr bool repeats(channel_lines const& earlier, int micro_batches) const {
    for (int c = 0; c < count_; ++c) {
      line const &now = line_[c], &then = earlier.line_[c];
      int const open = now.posted - now.sent;
      if (open != then.posted - then.sent) return false;
      for (int k = 0; k < open; ++k) {
        action const& was = then.posts[then.sent + k];
        if (now.posts[now.sent + k] != make_action(was.what, was.stage, was.micro_batch + micro_batches)) return false;
      }
    }
    return true;
  }

 private:
  int count_;
  block<line> lines_;  // by channel
  line* line_;
  block<action> posts_;
};

}  // namespace pipewright::inline v0::detail
