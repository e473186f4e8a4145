// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <pipewright/error.hpp>
#include <pipewright/schedule/action.hpp>
#include <pipewright/schedule/rows.hpp>
#include <pipewright/schedule/shape.hpp>

/// Actions as text, as the field and PyTorch's pipelining write them: `2F0 2B0 2I0 2W0 2SEND_F0 2RECV_B0`, a stage, a
/// kind and a micro-batch. What belongs to a whole step has no micro-batch (`2UPDATE`, `2SEND_S`, `2UNSHARD`); a forward
/// and a backward that may run at once are one word, `(0F3;3B1)OVERLAP_F_B`. Both ways, in the compiler and at run time.
namespace pipewright::inline v0 {

/// The kind in text: F B I W R, SEND_F RECV_F POST_F WAIT_F and so on.
constexpr std::string_view name_of(kind k) {
  switch (k) {
    case kind::forward: return "F";
    case kind::backward: return "B";
    case kind::backward_input: return "I";
    case kind::backward_weight: return "W";
    case kind::recompute: return "R";
    case kind::send_forward: return "SEND_F";
    case kind::receive_forward: return "RECV_F";
    case kind::post_forward: return "POST_F";
    case kind::wait_forward: return "WAIT_F";
    case kind::send_backward: return "SEND_B";
    case kind::receive_backward: return "RECV_B";
    case kind::post_backward: return "POST_B";
    case kind::wait_backward: return "WAIT_B";
    case kind::send_tied: return "SEND_T";
    case kind::post_tied: return "POST_T";
    case kind::wait_tied: return "WAIT_T";
    case kind::send_facts: return "SEND_S";
    case kind::post_facts: return "POST_S";
    case kind::wait_facts: return "WAIT_S";
    case kind::send_verdict: return "SEND_V";
    case kind::post_verdict: return "POST_V";
    case kind::wait_verdict: return "WAIT_V";
    case kind::update: return "UPDATE";
    case kind::unshard: return "UNSHARD";
    case kind::reshard: return "RESHARD";
    case kind::reduce_gradient: return "REDUCE_GRAD";
  }
  return "";
}

/// Whether the text of a kind ends in a micro-batch.
constexpr bool has_micro_batch(kind k) { return k <= kind::wait_backward; }

/// What a text breaks.
enum class notation_rule : std::uint8_t {
  none,
  stage,
  stage_too_large,
  kind_of_action,
  micro_batch,
  micro_batch_too_large,
  end_of_action,
  pair,
  pair_name,
  nothing,
  ranks_too_many,
};

/// The rule in words: what is expected where the fault stands.
constexpr char const* sentence(notation_rule r) {
  switch (r) {
    case notation_rule::none: return "the text is well formed";
    case notation_rule::stage:
      return "an action is expected, which begins with its stage number, as in 0F1 or 2SEND_B0";
    case notation_rule::stage_too_large: return "the stage number is too large: a plan has at most 65535 stages";
    case notation_rule::kind_of_action:
      return "a kind of action is expected: F, B, I, W, SEND_F, RECV_F, SEND_B, RECV_B, UNSHARD, RESHARD or "
             "REDUCE_GRAD";
    case notation_rule::micro_batch: return "a micro-batch number is expected, as in 0F1";
    case notation_rule::micro_batch_too_large:
      return "the micro-batch number is too large: a plan has at most 67108864 micro-batches";
    case notation_rule::end_of_action: return "the action is expected to end here";
    case notation_rule::pair: return "a fused pair is expected, as in (0F3;3B1)OVERLAP_F_B";
    case notation_rule::pair_name: return "OVERLAP_F_B is expected after the fused pair";
    case notation_rule::nothing: return "a schedule is expected, but there is no action at all";
    case notation_rule::ranks_too_many: return "there are too many ranks: a plan has at most 65535";
  }
  return "";
}

/// The verdict on a text: the first rule that it breaks and where, columns (bytes) counted from 1.
struct notation_fault {
  notation_rule broken = notation_rule::none;
  int column = 0;
  constexpr bool ok() const { return broken == notation_rule::none; }
  friend constexpr bool operator==(notation_fault const&, notation_fault const&) = default;
};

namespace detail {

/// Reads one text from the left and remembers the first fault.
struct notation_reader {
  char const* text;
  int size;
  int at = 0;
  notation_fault fault{};

  constexpr explicit notation_reader(std::string_view t) : text(t.data()), size(static_cast<int>(t.size())) {}

  constexpr char peek() const { return at < size ? text[at] : '\0'; }
  constexpr bool at_digit() const { return at < size && text[at] >= '0' && text[at] <= '9'; }
  constexpr bool at_letter() const { return at < size && ((text[at] >= 'A' && text[at] <= 'Z') || text[at] == '_'); }
  constexpr bool take(char c) { return at < size && text[at] == c && (++at, true); }
  constexpr bool fail(notation_rule r, int where) {
    fault = {r, where + 1};
    return false;
  }

  constexpr bool number(int below, notation_rule missing, notation_rule too_large, int& value) {
    if (!at_digit()) return fail(missing, at);
    int const begin = at;
    value = 0;
    for (; at_digit(); ++at) {
      value = value * 10 + (text[at] - '0');
      if (value >= below) return fail(too_large, begin);  // before it can overflow: below <= 2^26
    }
    return true;
  }

  constexpr std::string_view word() {
    int const begin = at;
    while (at_letter()) ++at;
    return {text + begin, static_cast<std::size_t>(at - begin)};
  }

  constexpr bool single(action& a) {
    int stage = 0, micro_batch = 0;
    if (!number(max_stages, notation_rule::stage, notation_rule::stage_too_large, stage)) return false;
    int const begin = at;
    auto const name = word();
    int const kinds = static_cast<int>(kind::reduce_gradient) + 1;
    int k = 0;
    while (k < kinds && name_of(static_cast<kind>(k)) != name) ++k;
    if (k == kinds) return fail(notation_rule::kind_of_action, begin);
    auto const what = static_cast<kind>(k);
    if (has_micro_batch(what) &&
        !number(max_micro_batches, notation_rule::micro_batch, notation_rule::micro_batch_too_large, micro_batch))
      return false;
    a = make_action(what, stage, micro_batch);
    return true;
  }

  /// One action, or a fused pair.
  constexpr bool cell(auto&& emit) {
    action a{};
    if (!take('(')) return single(a) && (emit(a), true);
    action b{};
    if (!single(a)) return false;
    if (!take(';')) return fail(notation_rule::pair, at);
    if (!single(b)) return false;
    if (!take(')')) return fail(notation_rule::pair, at);
    int const begin = at;
    if (word() != "OVERLAP_F_B") return fail(notation_rule::pair_name, begin);
    a.overlapped = true;
    emit(a);
    emit(b);
    return true;
  }
};

constexpr bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }

}  // namespace detail

/// Reads one action or one fused pair that fills the whole text and calls emit(action) for each, the first of a pair
/// `overlapped`. Linear.
constexpr notation_fault parse_action(std::string_view text, auto&& emit) {
  detail::notation_reader reader(text);
  if (reader.cell(emit) && reader.at != reader.size) reader.fail(notation_rule::end_of_action, reader.at);
  return reader.fault;
}

/// Reads actions with blanks between them and calls emit(action) for each, up to the first fault. Linear.
constexpr notation_fault parse_actions(std::string_view text, auto&& emit) {
  detail::notation_reader reader(text);
  for (;;) {
    while (detail::is_blank(reader.peek())) ++reader.at;
    if (reader.at == reader.size) return reader.fault;
    if (!reader.cell(emit)) return reader.fault;
    if (reader.at != reader.size && !detail::is_blank(reader.peek())) {
      reader.fail(notation_rule::end_of_action, reader.at);
      return reader.fault;
    }
  }
}

/// One rank's order from text, `actions("0F0 0F1 0B0 0B1")`. Throws pipewright::error with the column and what is
/// expected there; in a constant expression a bad text does not compile.
constexpr std::vector<action> actions(std::string_view text) {
  std::vector<action> result;
  auto const fault = parse_actions(text, [&](action a) { result.push_back(a); });
  if (!fault.ok()) throw error("column " + std::to_string(fault.column) + ": " + sentence(fault.broken));
  return result;
}

/// The text of one action in a value of its own, for messages and for the compiler.
class action_text {
 public:
  constexpr explicit action_text(action a) {
    number(a.stage);
    for (char c : name_of(a.what)) text_[size_++] = c;
    if (has_micro_batch(a.what)) number(a.micro_batch);
  }
  constexpr std::string_view view() const { return {text_, static_cast<std::size_t>(size_)}; }
  constexpr operator std::string_view() const { return view(); }

 private:
  constexpr void number(std::int64_t n) {
    if (n < 0) {  // no plan holds one; a broken table in a message may
      text_[size_++] = '-';
      n = -n;
    }
    char digits[20]{};
    int count = 0;
    do digits[count++] = static_cast<char>('0' + n % 10);
    while ((n /= 10) != 0);
    while (count > 0) text_[size_++] = digits[--count];
  }

  char text_[32]{};  // 5 + 11 + 11 at most
  int size_ = 0;
};

/// Writes a rank's actions in order as append(std::string_view) pieces, `separator` between them, a fused pair as one
/// word. Linear.
constexpr void write_actions(row<action> actions, std::string_view separator, auto&& append) {
  auto const [a, n] = actions;
  for (std::size_t i = 0; i < n; ++i) {
    if (i > 0) append(separator);
    if (!a[i].overlapped || i + 1 == n) {
      append(action_text(a[i]).view());
      continue;
    }
    append(std::string_view("("));
    append(action_text(a[i]).view());
    append(std::string_view(";"));
    append(action_text(a[++i]).view());
    append(std::string_view(")OVERLAP_F_B"));
  }
}

/// A rank's actions as one text, `0F0 0F1 0B0 0B1`.
inline std::string text_of(std::span<action const> actions, std::string_view separator = " ") {
  std::string text;
  write_actions({actions.data(), actions.size()}, separator, [&](std::string_view piece) { text += piece; });
  return text;
}

}  // namespace pipewright::inline v0
