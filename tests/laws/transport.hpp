// SPDX-License-Identifier: Apache-2.0
#pragma once
// What every transport promises, run on every model of the concept:
//
//   TEST_CASE("my transport keeps the laws") { laws::transport<my_world>(); }
//
// A world joins ranks: a default-constructible type with
//   static constexpr bool is_strict;                    whether a send is complete only once its post is there
//   void run(int ranks, auto f, double deadline);       f(endpoint&) on every rank; throws if a rank threw or aborted
//
// Laws check on the rank that sees, and share nothing between ranks but constants, so ranks may be processes.

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <optional>
#include <random>
#include <source_location>
#include <string>
#include <string_view>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <pipewright/error.hpp>
#include <pipewright/profile/profile_links.hpp>
#include <pipewright/stage/stage.hpp>
#include <pipewright/transport/transport.hpp>

namespace laws {

namespace pw = pipewright;

namespace of_transport {

inline constexpr double patience = 60;  // seconds of a deadline that is not to be met

/// Where not null, broken laws are counted there instead of failing the test.
inline std::atomic<int>* broken = nullptr;

inline void expect(bool holds, std::string_view text = "",
                   std::source_location where = std::source_location::current()) {
  if (broken) *broken += !holds;
  else CHECK_MESSAGE(holds, "the law in line ", where.line(), " of laws/transport.hpp; ", std::string(text));
}

inline pw::channel_key forwards(int from, int to) { return {from, to, pw::traffic::activation}; }
inline pw::channel_key backwards(int from, int to) { return {from, to, pw::traffic::gradient}; }

/// All ranks come to here before one goes on.
void meet(auto& here) { here.agree("meet"); }

/// What f throws as pipewright::error says; empty if it throws nothing.
std::string error_of(auto f) {
  try {
    f();
  } catch (pw::error const& fault) {
    return fault.what();
  }
  return {};
}
inline bool says(std::string_view text, std::string_view part) { return text.find(part) != text.npos; }

/// Distinct values of distinct lengths.
inline std::vector<std::int64_t> value(int channel, int number) {
  std::vector<std::int64_t> made(static_cast<std::size_t>((channel + number) % 5));
  made.push_back(channel * 1'000'000 + number);
  return made;
}

template<class World> void knows_its_ranks() {
  for (int const ranks : {1, 2, 4})
    World().run(
        ranks,
        [&](auto& here) {
          expect(here.size() == ranks);
          expect(0 <= here.rank() && here.rank() < ranks);
          for (int other = 1; other < ranks; ++other) {
            int slot = here.rank();
            if (here.rank() == other) here.wait(here.send(here.open(forwards(other, 0)), pw::message_of(slot)));
            if (here.rank() == 0) here.wait(here.post(here.open(forwards(other, 0)), pw::message_of(slot)));
            if (here.rank() == 0) expect(slot == other);
          }
        },
        patience);
}

template<class World> void opens_a_channel_once() {
  World().run(
      2,
      [](auto& here) {
        int const one = here.open(forwards(0, 1)), other = here.open(backwards(0, 1));
        expect(one != other);
        expect(here.open(forwards(0, 1)) == one);
        expect(here.open(backwards(0, 1)) == other);
      },
      patience);
}

template<class World> void keeps_order() {
  constexpr int transfers = 300;
  for (int const ahead : {1, 2, 7, 100})  // posts and sends that are begun before the first wait
    World().run(
        2,
        [&](auto& here) {
          int const channel = here.open(forwards(0, 1));
          std::vector<std::vector<std::int64_t>> slots(static_cast<std::size_t>(ahead));
          std::vector<pw::ticket> begun(slots.size());
          for (int number = 0; number < transfers + ahead; ++number) {
            auto const place = static_cast<std::size_t>(number % ahead);
            if (number >= ahead) {
              here.wait(begun[place]);
              if (here.rank() == 1) expect(slots[place] == value(0, number - ahead));
            }
            if (number >= transfers) continue;
            if (here.rank() == 0) slots[place] = value(0, number);
            begun[place] = here.rank() == 0 ? here.send(channel, pw::message_of(slots[place]))
                                            : here.post(channel, pw::message_of(slots[place]));
          }
        },
        patience);
}

/// A transport may expect the next value to be like the last one; here it is larger, smaller, as large, or very large.
template<class World> void keeps_sizes_that_change() {
  constexpr std::array<std::size_t, 12> lengths{1, 100, 3000, 3000, 2999, 0, 200'000, 200'000, 5, 600'000, 3000, 3001};
  auto const made = [&](std::size_t number) {
    return std::vector<std::int64_t>(lengths[number], static_cast<std::int64_t>(number) + 1);
  };
  World().run(
      2,
      [&](auto& here) {
        int const channel = here.open(forwards(0, 1));
        std::array<std::vector<std::int64_t>, lengths.size()> slots;
        std::array<pw::ticket, lengths.size()> begun;
        for (std::size_t k = 0; k < lengths.size(); ++k) {
          if (here.rank() == 0) slots[k] = made(k);
          begun[k] = here.rank() == 0 ? here.send(channel, pw::message_of(slots[k]))
                                      : here.post(channel, pw::message_of(slots[k]));
        }
        for (std::size_t k = 0; k < lengths.size(); ++k) {
          here.wait(begun[k]);
          if (here.rank() == 1) expect(slots[k] == made(k));
        }
      },
      patience);
}

template<class World> void waits_in_any_order() {
  World().run(
      2,
      [](auto& here) {
        int const channel = here.open(forwards(0, 1));
        std::array<int, 40> slots{};
        std::array<pw::ticket, 40> begun;
        for (int k = 0; k < 40; ++k) {
          auto& slot = slots[static_cast<std::size_t>(k)];
          if (here.rank() == 0) slot = k + 1;
          begun[static_cast<std::size_t>(k)] =
              here.rank() == 0 ? here.send(channel, pw::message_of(slot)) : here.post(channel, pw::message_of(slot));
        }
        for (auto k = begun.size(); k-- > 0;) {
          here.wait(begun[k]);
          expect(here.poll(begun[k]));
          if (here.rank() == 1) expect(slots[k] == static_cast<int>(k) + 1);
        }
        for (auto const each : begun) here.wait(each);  // again: complete stays complete
      },
      patience);
}

/// The ends begin the transfers of two channels in opposite orders, and wait for them in opposite orders.
template<class World> void keeps_channels_apart(double deadline = patience) {
  World().run(
      2,
      [](auto& here) {
        int const one = here.open(forwards(0, 1)), other = here.open(backwards(0, 1));
        for (int number = 0; number < 50; ++number) {
          std::vector<std::int64_t> first, second;
          if (here.rank() == 0) {
            first = value(1, number), second = value(2, number);
            auto const a = here.send(one, pw::message_of(first)), b = here.send(other, pw::message_of(second));
            here.wait(a);
            here.wait(b);
          } else {
            auto const b = here.post(other, pw::message_of(second));
            here.wait(b);
            auto const a = here.post(one, pw::message_of(first));
            here.wait(a);
            expect(first == value(1, number));
            expect(second == value(2, number));
          }
          if (number % 2 == 0) meet(here);
        }
      },
      deadline);
}

template<class World> void passes_head_on() {
  World().run(
      2,
      [](auto& here) {
        int const me = here.rank(), peer = 1 - me;
        int const out = here.open(forwards(me, peer)), in = here.open(forwards(peer, me));
        for (int number = 0; number < 200; ++number) {
          auto sent = value(me, number), received = value(9, 9);
          auto const s = here.send(out, pw::message_of(sent)), r = here.post(in, pw::message_of(received));
          here.wait(number % 2 ? s : r);
          here.wait(number % 2 ? r : s);
          expect(received == value(peer, number));
        }
      },
      patience);
}

template<class World> void takes_posts_ahead(double deadline = patience) {
  World().run(
      2,
      [](auto& here) {
        int const channel = here.open(forwards(0, 1));
        std::vector<std::vector<std::int64_t>> slots(100);
        std::vector<pw::ticket> begun;
        if (here.rank() == 1)
          for (auto& slot : slots) begun.push_back(here.post(channel, pw::message_of(slot)));
        for (auto const each : begun) expect(!here.poll(each));
        meet(here);
        if (here.rank() == 0)
          for (int number = 0; number < 100; ++number) {
            slots[0] = value(3, number);
            here.wait(here.send(channel, pw::message_of(slots[0])));
          }
        for (auto const each : begun) here.wait(each);
        for (int number = 0; number < 100 && here.rank() == 1; ++number)
          expect(slots[static_cast<std::size_t>(number)] == value(3, number));
      },
      deadline);
}

/// A strict world completes no send before its post; whatever the mode, a send need not wait for the receiver to wait.
template<class World> void sends_meet_posts() {
  World().run(
      2,
      [](auto& here) {
        int const channel = here.open(forwards(0, 1));
        for (int number = 0; number < 20; ++number) {
          std::string slot = here.rank() == 0 ? std::to_string(number) : "old";
          if (here.rank() == 0) {
            auto const begun = here.send(channel, pw::message_of(slot));
            if (World::is_strict)
              for (int i = 0; i < 100; ++i) {
                here.progress();
                expect(!here.poll(begun));
              }
            meet(here);
            here.wait(begun);
            meet(here);
          } else {
            meet(here);
            auto const begun = here.post(channel, pw::message_of(slot));
            meet(here);  // the send has completed; nobody has waited for the post
            while (!here.poll(begun)) here.progress();
            expect(slot == std::to_string(number));
          }
        }
      },
      patience);
}

struct record {
  std::vector<double> values;
  std::optional<std::string> note;
  void for_each_part(auto&& visit) {
    visit(values);
    visit(note);
  }
  friend bool operator==(record const&, record const&) = default;
};

/// Two values of a type there, into slots that hold others, over channels of both kinds.
template<class World, class T> void carries(T const& first, T const& second) {
  World().run(
      2,
      [&](auto& here) {
        int const channel = here.open(forwards(0, 1));
        for (auto const* value : {&first, &second, &first}) {
          T slot = here.rank() == 0 ? *value : second;
          here.wait(here.rank() == 0 ? here.send(channel, pw::message_of(slot))
                                     : here.post(channel, pw::message_of(slot)));
          if (here.rank() == 1) expect(slot == *value);
        }
      },
      patience);
}
/// As trainers have them: two bytes that only their ends understand.
struct brain_float {
  std::uint16_t bits;
  friend bool operator==(brain_float, brain_float) = default;
};

template<class World> void carries_any_boundary() {
  carries<World>(1, -2);
  carries<World>(std::vector<float>{1, 2, 3}, std::vector<float>{});
  carries<World>(std::array<short, 3>{1, 2, 3}, std::array<short, 3>{4, 5, 6});
  carries<World>(std::pair(1, 2.5), std::pair(-1, 0.5));
  carries<World>(std::tuple(1, std::vector<int>{1, 2}, std::optional<double>()),
                 std::tuple(2, std::vector<int>{}, std::optional<double>(3.5)));
  carries<World>(std::string("some longer text than fits into a string without memory"), std::string());
  carries<World>(pw::nothing{}, pw::nothing{});
  carries<World>(record{{1, 2}, "noted"}, record{{}, {}});
  carries<World>(std::vector<std::string>{"a", "", "ccc"}, std::vector<std::string>{});
  carries<World>(std::vector<std::string>(1000, "each has a number in the shape"), std::vector<std::string>{"b"});
  carries<World>(std::vector<brain_float>{{0x3f80}, {0xffff}, {0x0001}}, std::vector<brain_float>(1000, {0x7f80}));
  std::vector<std::int32_t> large(1 << 22);
  for (std::size_t i = 0; i < large.size(); ++i) large[i] = static_cast<std::int32_t>(i * 2654435761U);
  carries<World>(large, std::vector<std::int32_t>{7});
}

template<class World> void refuses_another_type() {
  auto const names_it = [](std::string const& text) {
    for (auto const part : {"transfer 0", "gradient", "from rank 1 to rank 0", "float", "double"})
      expect(says(text, part), text);
  };
  for (bool const sent_first : {true, false})
    names_it(error_of([&] {
      World().run(
          2,
          [&](auto& here) {
            int const channel = here.open(backwards(1, 0));
            float sent = 1;
            double received = 1;
            names_it(error_of([&] {
              if (sent_first == (here.rank() == 0)) meet(here);
              auto const begun = here.rank() == 1 ? here.send(channel, pw::message_of(sent))
                                                  : here.post(channel, pw::message_of(received));
              if (sent_first != (here.rank() == 0)) meet(here);
              here.wait(begun);
              if (!World::is_strict) meet(here);  // a sender that is done hears of it at the next occasion
            }));
          },
          patience);
    }));
}

template<class World> void refuses_channels_of_others() {
  World().run(
      3,
      [](auto& here) {
        int const mine = here.rank(), next = (mine + 1) % 3, other = (mine + 2) % 3;
        expect(says(error_of([&] { here.open(forwards(next, other)); }), "rank " + std::to_string(mine)));
        expect(!error_of([&] { here.open(forwards(mine, mine)); }).empty());
        expect(!error_of([&] { here.open(forwards(mine, 3)); }).empty());
        expect(!error_of([&] { here.open(forwards(-1, mine)); }).empty());
        int const out = here.open(forwards(mine, next)), in = here.open(forwards(other, mine));
        expect(out != in);
        int slot = 0;
        expect(!error_of([&] { here.post(out, pw::message_of(slot)); }).empty());
        expect(!error_of([&] { here.send(in, pw::message_of(slot)); }).empty());
      },
      patience);
}

/// Whichever rank aborts, all stop with its reason: those that wait, that poll, that agree, and itself.
template<class World> void aborts_from_any_rank(double deadline = patience) {
  constexpr int ranks = 4;
  for (int culprit = 0; culprit < ranks; ++culprit) {
    auto const outcome = error_of([&] {
      World().run(
          ranks,
          [&](auto& here) {
            int const me = here.rank(), next = (me + 1) % ranks, before = (me + ranks - 1) % ranks;
            int const out = here.open(forwards(me, next)), in = here.open(backwards(before, me));
            int sent = 0, received = 0;
            auto const said = error_of([&] {
              meet(here);
              switch ((me + ranks - culprit) % ranks) {
                case 0: here.abort("no more of this"); [[fallthrough]];
                case 1: here.wait(here.post(in, pw::message_of(received))); break;
                case 2: here.agree("never"); break;
                case 3:
                  for (auto const begun = here.send(out, pw::message_of(sent)); !here.poll(begun);) here.progress();
                  if (!World::is_strict) here.wait(here.post(in, pw::message_of(received)));
              }
            });
            expect(says(said, "no more of this"), said);
            expect(says(error_of([&] { here.agree("again"); }), "no more of this"));
            here.abort("too late to say");
          },
          deadline);
    });
    expect(says(outcome, "no more of this"), outcome);
    expect(says(outcome, "rank " + std::to_string(culprit)));
  }
}

template<class World> void stops_all_where_one_throws() {
  for (int culprit = 0; culprit < 3; ++culprit) {
    auto const outcome = error_of([&] {
      World().run(
          3,
          [&](auto& here) {
            int const me = here.rank(), before = (me + 2) % 3;
            std::vector<int> received(100);
            int const in = here.open(forwards(before, me));
            here.open(forwards(me, (me + 1) % 3));
            if (me == culprit) throw std::logic_error("this stage is broken");
            here.wait(here.post(in, pw::message_of(received)));
          },
          patience);
    });
    expect(says(outcome, "this stage is broken"), outcome);
    expect(says(outcome, "rank " + std::to_string(culprit)));
  }
}

/// Polls, which has no deadline, for what never comes; returns what it is told when all are stopped.
std::string stays(auto& here, pw::channel_key silent) {
  int slot = 0;
  auto const begun = here.post(here.open(silent), pw::message_of(slot));
  return error_of([&] {
    while (!here.poll(begun)) {
      here.progress();
      std::this_thread::yield();
    }
  });
}

template<class World> void keeps_deadlines() {
  using clock = std::chrono::steady_clock;
  for (bool const sends : {false, true}) {
    if (sends && !World::is_strict) continue;
    auto const names_it = [&](std::string const& text) {
      for (auto const part :
           {"rank 0", "0.2 s", "transfer 0", "activation", sends ? "from rank 0 to rank 1" : "from rank 1 to rank 0"})
        expect(says(text, part), text);
    };
    names_it(error_of([&] {
      World().run(
          2,
          [&](auto& here) {
            int const channel = here.open(sends ? forwards(0, 1) : forwards(1, 0));
            if (here.rank() == 1) return names_it(stays(here, backwards(0, 1)));
            int slot = 0;
            auto const start = clock::now();
            names_it(error_of([&] {
              here.wait(sends ? here.send(channel, pw::message_of(slot)) : here.post(channel, pw::message_of(slot)));
            }));
            expect(clock::now() - start >= std::chrono::milliseconds(200));
          },
          0.2);
    }));
  }
}

template<class World> void agrees() {
  World().run(
      4,
      [](auto& here) {
        for (int round = 0; round < 50; ++round) here.agree("round " + std::to_string(round));
      },
      patience);
  auto const names_them = [](std::string const& text) {
    for (auto const part : {"ranks 0, 1 and 3", "\"flush\"", "rank 2", "\"gpipe\""}) expect(says(text, part), text);
  };
  names_them(error_of([&] {
    World().run(
        4,
        [&](auto& here) {
          here.agree("first");
          names_them(error_of([&] { here.agree(here.rank() == 2 ? "gpipe" : "flush"); }));
        },
        patience);
  }));
  auto const absent = error_of([&] {
    World().run(
        3,
        [&](auto& here) {
          if (here.rank() != 1) here.agree("all");
          else stays(here, forwards(0, 1));
        },
        0.2);
  });
  expect(says(absent, "rank 1") && says(absent, "0.2 s"), absent);
}

/// Rings of ranks with two kinds of traffic in opposite directions, begun and awaited in random orders.
template<class World> void withstands_random_orders() {
  for (int const ranks : {2, 3, 8})
    World().run(
        ranks,
        [&](auto& here) {
          int const me = here.rank(), next = (me + 1) % ranks, before = (me + ranks - 1) % ranks;
          std::array const keys{forwards(me, next), backwards(me, before), forwards(before, me), backwards(next, me)};
          std::array<int, 4> channels{}, order{0, 1, 2, 3};
          for (std::size_t i = 0; i < 4; ++i) channels[i] = here.open(keys[i]);
          std::array<std::vector<std::int64_t>, 4> slots;
          std::array<pw::ticket, 4> begun;
          std::mt19937 random(static_cast<unsigned>(17 * ranks + me));
          for (int round = 0; round < 300; ++round) {
            slots[0] = value(me, round);
            slots[1] = value(ranks + me, round);
            std::ranges::shuffle(order, random);
            for (auto const each : order) {
              auto const i = static_cast<std::size_t>(each);
              auto const slot = pw::message_of(slots[i]);
              begun[i] = each < 2 ? here.send(channels[i], slot) : here.post(channels[i], slot);
            }
            std::ranges::shuffle(order, random);
            for (auto const each : order) here.wait(begun[static_cast<std::size_t>(each)]);
            expect(slots[2] == value(before, round));
            expect(slots[3] == value(ranks + next, round));
          }
        },
        patience);
}

template<class World> void lets_its_links_be_measured() {
  for (int const ranks : {1, 2, 3})
    World().run(
        ranks,
        [&](auto& here) {
          auto const links = pw::profile_links(here, {.bytes = std::size_t{1} << 20, .warm_up = 1, .rounds = 3});
          expect(links.size() == static_cast<std::size_t>(ranks > 2 ? ranks : ranks - 1));
          for (std::size_t i = 0; i < links.size(); ++i) {
            expect(links[i].from == static_cast<int>(i) && links[i].to == (links[i].from + 1) % ranks);
            expect(links[i].latency > 0 && links[i].bandwidth > 0);
          }
          std::string all;
          for (auto const& each : links)
            all += std::to_string(each.latency) + " " + std::to_string(each.bandwidth) + " ";
          here.agree(all);  // or it throws
        },
        patience);
}

}  // namespace of_transport

/// Whether a law is found broken.
bool is_broken(auto law) {
  std::atomic<int> count = 0;
  of_transport::broken = &count;
  if (!of_transport::error_of(law).empty()) ++count;
  of_transport::broken = nullptr;
  return count > 0;
}

/// All of them. For one test case, which a failing law fails.
template<class World> void transport() {
  using namespace of_transport;
  SUBCASE("knows its ranks") { knows_its_ranks<World>(); }
  SUBCASE("opens a channel once") { opens_a_channel_once<World>(); }
  SUBCASE("keeps order") { keeps_order<World>(); }
  SUBCASE("keeps sizes that change") { keeps_sizes_that_change<World>(); }
  SUBCASE("waits in any order") { waits_in_any_order<World>(); }
  SUBCASE("keeps channels apart") { keeps_channels_apart<World>(); }
  SUBCASE("passes head-on") { passes_head_on<World>(); }
  SUBCASE("takes posts ahead") { takes_posts_ahead<World>(); }
  SUBCASE("sends meet posts") { sends_meet_posts<World>(); }
  SUBCASE("carries any boundary") { carries_any_boundary<World>(); }
  SUBCASE("refuses another type") { refuses_another_type<World>(); }
  SUBCASE("refuses channels of others") { refuses_channels_of_others<World>(); }
  SUBCASE("aborts from any rank") { aborts_from_any_rank<World>(); }
  SUBCASE("stops all where one throws") { stops_all_where_one_throws<World>(); }
  SUBCASE("keeps deadlines") { keeps_deadlines<World>(); }
  SUBCASE("agrees") { agrees<World>(); }
  SUBCASE("withstands random orders") { withstands_random_orders<World>(); }
  SUBCASE("lets its links be measured") { lets_its_links_be_measured<World>(); }
}

}  // namespace laws
