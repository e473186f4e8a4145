// SPDX-License-Identifier: Apache-2.0
// The brute force itself: it accepts programs made by hand and finds each kind of fault, once for every rule.
#include <sstream>
#include <string>
#include <utility>

#include <doctest/doctest.h>
#include <support/brute_force.hpp>

namespace pw = pipewright;

namespace {

/// Reads "0F0 0SEND_F0 0UPDATE0=1"; "=v" is the weight version, 0 without it.
std::vector<pw::instruction> read_program(std::string const& text) {
  std::vector<pw::instruction> program;
  std::istringstream words{text};
  for (std::string word; words >> word;) {
    auto const name_at = word.find_first_not_of("0123456789");
    auto const number_at = word.find_first_of("0123456789", name_at);
    auto const name = word.substr(name_at, number_at - name_at);
    auto const equals = word.find('=');
    int what = 0;
    auto same_name = [&](int k) {
      auto const written = support::write_instruction({pw::make_action(static_cast<pw::kind>(k), 0, 0), 0});
      return written.substr(0, written.find(' ')) == "0" + name + "0";
    };
    while (what < 32 && (what > static_cast<int>(pw::kind::update) || !same_name(what))) ++what;
    REQUIRE_MESSAGE(what < 32, word);
    program.push_back({pw::make_action(static_cast<pw::kind>(what), std::stoi(word), std::stoi(word.substr(number_at))),
                       equals == std::string::npos ? 0 : std::stoi(word.substr(equals + 1))});
  }
  return program;
}

pw::slot_depths everywhere(int depth) { return {depth, depth, 0, 0, depth, depth, depth, 1}; }

/// Flush, two ranks, two micro-batches, receives posted one ahead.
support::program_set flush_by_hand() {
  return {{.ranks = 2, .micro_batches = 2, .chunks = 1},
          pw::weight_rule::synchronous,
          pw::backward_form::full,
          {},
          {read_program("0POST_B0 0F0 0SEND_F0 0F1 0SEND_F1 0WAIT_B0 0POST_B1 0B0 0WAIT_B1 0B1 0UPDATE1=1"),
           read_program("1POST_F0 1POST_F1 1WAIT_F0 1F0 1B0 1SEND_B0 1WAIT_F1 1F1 1B1 1SEND_B1 1UPDATE1=1")},
          {0, 1},
          {everywhere(2), everywhere(2)},
          {1, 1}};
}

/// PipeDream, two ranks, three micro-batches: rank 0 reads versions 0 0 1, rank 1 reads 0 1 2.
support::program_set stashing_by_hand() {
  return {
      {.ranks = 2, .micro_batches = 3, .chunks = 1},
      pw::weight_rule::stashing,
      pw::backward_form::full,
      {},
      {read_program("0F0 0SEND_F0 0F1 0SEND_F1 0RECV_B0 0B0 0UPDATE0=1 0F2=1 0SEND_F2 0RECV_B1 0B1 0UPDATE1=2 0RECV_B2 "
                    "0B2=1 0UPDATE2=3"),
       read_program("1RECV_F0 1F0 1RECV_F1 1B0 1SEND_B0 1UPDATE0=1 1F1=1 1RECV_F2 1B1=1 1SEND_B1 1UPDATE1=2 1F2=2 "
                    "1B2=2 1SEND_B2 1UPDATE2=3")},
      {0, 1},
      {everywhere(2), everywhere(2)},
      {2, 1}};
}

bool finds(support::program_set const& p, std::string const& part) {
  auto const found = support::brute_force(p);
  CAPTURE(found);
  CHECK(found.find(part) != std::string::npos);
  return found.find(part) != std::string::npos;
}

}  // namespace

TEST_CASE("programs by hand are right") {
  CHECK_EQ(support::brute_force(flush_by_hand()), "");
  CHECK_EQ(support::brute_force(stashing_by_hand()), "");
}

TEST_CASE("complete: missing, doubled, elsewhere") {
  auto p = flush_by_hand();
  p.programs[1].erase(p.programs[1].begin() + 8);
  finds(p, "missing");
  p = flush_by_hand();
  p.programs[0].insert(p.programs[0].begin() + 9, p.programs[0][7]);
  finds(p, "done twice");
  p = flush_by_hand();
  p.programs[0][1].what.stage = 1;
  finds(p, "the stage stands elsewhere");
  p = flush_by_hand();
  p.programs[0].pop_back();
  finds(p, "update 1 is missing");
}

TEST_CASE("feasible: backward before forward, input that nobody made") {
  auto p = flush_by_hand();
  std::swap(p.programs[1][7], p.programs[1][8]);
  finds(p, "1B1 v0: its forward has not run");
  p = flush_by_hand();
  std::swap(p.programs[0][1], p.programs[0][2]);
  finds(p, "0SEND_F0: it reads a slot that does not hold what it names");
}

TEST_CASE("channels: another order is other data") {
  auto p = flush_by_hand();
  std::swap(p.programs[1][0], p.programs[1][1]);  // posts in another order than sends
  finds(p, "1F0 v0: it reads a slot that does not hold what it names");
  p = flush_by_hand();
  p.programs[1].erase(p.programs[1].begin() + 1);  // never posted
  finds(p, "waits for what was not posted");
}

TEST_CASE("deadlock: a receive just before its use") {
  auto p = flush_by_hand();
  // Rank 0 stands at SEND_F1 while rank 1 stands at SEND_B0, each before the receive that the other needs.
  p.programs = {read_program("0F0 0SEND_F0 0F1 0SEND_F1 0RECV_B0 0B0 0RECV_B1 0B1 0UPDATE1=1"),
                read_program("1RECV_F0 1F0 1B0 1SEND_B0 1RECV_F1 1F1 1B1 1SEND_B1 1UPDATE1=1")};
  finds(p, "waits for ever");
  p.programs[1] = read_program("1RECV_F0 1F0 1RECV_F1 1B0 1SEND_B0 1F1 1B1 1SEND_B1 1UPDATE1=1");
  CHECK_EQ(support::brute_force(p), "");
}

TEST_CASE("memory: a slot that is needed twice") {
  auto p = flush_by_hand();
  p.slots[0] = everywhere(1);
  finds(p, "0B0 v0: it reads a slot that does not hold what it names");
  p = flush_by_hand();
  p.slots[1].input = 1;  // the second post may write where the first one's message has landed
  finds(p, "something else was written where the message landed");
  p = flush_by_hand();
  p.slots[1].saved = 1;  // rank 1 has one micro-batch in flight
  p.slots[1].input_gradient = 1;
  CHECK_EQ(support::brute_force(p), "");
  p.slots[1].saved = 0;
  finds(p, "it has no buffer");
}

TEST_CASE("weights: another version, a version that is gone, an update too early") {
  auto p = stashing_by_hand();
  p.programs[0][13].version = 2;  // B2 reads what F2 did not
  finds(p, "not the serial run's");
  p = stashing_by_hand();
  p.weight_buffers[0] = 1;
  finds(p, "weight version 0 is not there");
  p = stashing_by_hand();
  p.weight_buffers = {3, 4};  // more than needed is no fault
  CHECK_EQ(support::brute_force(p), "");
  p = flush_by_hand();
  std::swap(p.programs[0][9], p.programs[0][10]);
  finds(p, "weight version 0 is not there");
  p = flush_by_hand();
  p.weight_buffers[0] = 2;
  std::swap(p.programs[0][9], p.programs[0][10]);
  finds(p, "not the serial run's");
  p = stashing_by_hand();
  p.weights = pw::weight_rule::vertical_sync;
  finds(p, "not the serial run's");
}
