// SPDX-License-Identifier: Apache-2.0
// Runs train_gpt2 as people do and looks at what it prints, writes and returns.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <numeric>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <support/tool.hpp>

namespace {

namespace fs = std::filesystem;
using json = nlohmann::json;

using support::content;
using support::file_with;
using support::outcome;

fs::path const& directory() { return support::scratch_directory(); }

/// A text with something to learn.
std::string data() {
  static auto const path = [] {
    std::string text;
    for (int i = 0; i < 300; ++i) text += "the quick brown fox jumps over the lazy dog " + std::to_string(i) + "\n";
    return file_with("text", text).string();
  }();
  return " --data '" + path + "' ";
}

outcome train_gpt2(std::string const& arguments) { return support::run_tool("train_gpt2", arguments); }

/// The figures of a training of a tiny model.
json trained(std::string const& arguments) {
  auto const result = train_gpt2("--model tiny --sequences 1 --length 16 --json - " + data() + arguments);
  CAPTURE(arguments);
  CAPTURE(result.err);
  REQUIRE(result.code == 0);
  CHECK(result.err.empty());
  return json::parse(result.out);
}

void is_refused(std::string const& arguments, std::string_view because) {
  auto const result = train_gpt2(arguments);
  CAPTURE(arguments);
  CAPTURE(result.err);
  CHECK(result.code == 2);
  CHECK(result.out.empty());
  CHECK(result.err.find("train_gpt2: ") == 0);
  CHECK(std::count(result.err.begin(), result.err.end(), '\n') == 1);
  CHECK(result.err.find(because) != std::string::npos);
}

}  // namespace

TEST_CASE("every schedule trains, and says what it did") {
  struct expectation {
    std::string schedule;
    std::vector<int> in_flight, versions;
  };
  for (auto const& [schedule, in_flight, versions] : std::vector<expectation>{{"sequential", {1, 1, 1}, {1, 1, 1}},
                                                                              {"gpipe", {6, 6, 6}, {1, 1, 1}},
                                                                              {"flush", {3, 2, 1}, {1, 1, 1}},
                                                                              {"interleaved", {8, 6, 4}, {1, 1, 1}},
                                                                              {"1f1b", {3, 2, 1}, {3, 2, 1}},
                                                                              {"1f1b-vsync", {3, 2, 1}, {3, 3, 3}},
                                                                              {"2bw", {3, 2, 1}, {2, 2, 2}}}) {
    CAPTURE(schedule);
    auto const j = trained("--ranks 3 --micro-batches 6 --steps 12 --schedule " + schedule);
    CHECK(j["schedule"] == schedule);
    auto const losses = j["losses"].get<std::vector<double>>();
    REQUIRE(losses.size() == 12);
    CHECK(losses.front() == doctest::Approx(std::log(256)).epsilon(0.1));
    CHECK(losses.back() < losses.front() - 0.5);
    CHECK(j["held_out"].size() == 1);
    CHECK(j["held_out"][0]["perplexity"].get<double>() ==
          doctest::Approx(std::exp(j["held_out"][0]["loss"].get<double>())));
    CHECK(j["in_flight"] == in_flight);
    CHECK(j["weight_versions"] == versions);
    CHECK(j["step_seconds"].get<double>() > 0);
    for (auto const* share : {"bubble_predicted", "bubble_measured"}) {
      CHECK(j[share].get<double>() >= 0);
      CHECK(j[share].get<double>() < 1);
    }
    for (auto const* bytes : {"activation_bytes", "weight_bytes", "sent_bytes"}) {
      REQUIRE(j[bytes].size() == 3);
      for (auto const& each : j[bytes]) CHECK(each.get<long>() > 0);
    }
    // Each rank sends an activation or gradient of 16 tokens x 32 values (and their shape) for each neighbour and micro-batch.
    long const message = 6 * (16 * 32 * 4 + 8), chunks = j["chunks"].get<long>();
    CHECK(chunks == (schedule == "interleaved" ? 2 : 1));
    CHECK(j["sent_bytes"][1] == 2 * chunks * message);
    CHECK(j["sample"].get<std::string>().size() > 20);
  }
}

TEST_CASE("synchronous schedules, cuts and recomputation give equal losses") {
  std::string const common = " --micro-batches 4 --steps 4 --dropout 0.1 --clip 1 --seed 5 ";
  auto const expected = trained("--schedule sequential --ranks 1" + common);
  for (std::string const run :
       {"--schedule gpipe --ranks 2", "--schedule flush --ranks 4", "--schedule flush --ranks 3 --balance 1,4,1",
        "--schedule interleaved --ranks 2 --chunks 3", "--schedule flush --ranks 2 --recompute always",
        "--schedule gpipe --ranks 2 --recompute except-last", "--schedule flush --ranks 2 --pace 2"}) {
    CAPTURE(run);
    auto const j = trained(run + common);
    CHECK(j["losses"] == expected["losses"]);
    CHECK(j["held_out"] == expected["held_out"]);
    CHECK(j["sample"] == expected["sample"]);
  }
  CHECK(trained("--schedule flush --ranks 2 --tied" + common)["losses"] != expected["losses"]);
  CHECK(trained("--schedule flush --ranks 2 --micro-batches 4 --steps 4 --clip 1 --seed 5 --dropout 0")["losses"] !=
        expected["losses"]);
  CHECK(trained("--schedule flush --ranks 2 --micro-batches 4 --steps 4 --clip 1 --seed 6 --dropout 0.1")["losses"] !=
        expected["losses"]);
  CHECK(trained("--schedule flush --ranks 2 --tied --clip 1 --micro-batches 4 --steps 4")["losses"] ==
        trained("--schedule gpipe --ranks 1 --tied --clip 1 --micro-batches 4 --steps 4")["losses"]);
}

TEST_CASE("optimizers, rates and looks at the held-out text") {
  for (auto const* options :
       {"--optimizer sgd --learning-rate 0.1 --rate-shape constant --momentum 0.5",
        "--optimizer adam --rate-shape linear", "--optimizer adamw --rate-shape cosine --warm-up 0 --weight-decay 0.1",
        "--accumulate 2", "--schedule 1f1b --clip 1 --clip-per-stage"}) {
    auto const j = trained(std::string("--ranks 2 --micro-batches 4 --steps 9 --eval-every 3 ") + options);
    CHECK(j["losses"].back() < j["losses"].front());
    REQUIRE(j["held_out"].size() == 3);
    for (int i = 0; i < 3; ++i) CHECK(j["held_out"][i]["step"] == 3 * (i + 1));
  }
}

TEST_CASE("a dry run says what a run then holds, and runs nothing") {
  for (std::string const run :
       {"--schedule gpipe --ranks 2", "--schedule flush --ranks 3", "--schedule interleaved --ranks 2",
        "--schedule 1f1b --ranks 3", "--schedule 2bw --ranks 2", "--schedule flush --ranks 2 --recompute always",
        "--schedule gpipe --ranks 2 --recompute except-last"}) {
    CAPTURE(run);
    auto const planned = trained(std::string("--dry-run --micro-batches 6 --steps 8 --trace '") +
                                 (directory() / "none.json").string() + "' " + run);
    auto const done = trained(std::string("--micro-batches 6 --steps 8 ") + run);
    CHECK(!planned.contains("losses"));
    for (auto const* same : {"balance", "parameters", "in_flight", "weight_versions", "weight_bytes", "sent_bytes"}) {
      CAPTURE(same);
      CHECK(planned[same] == done[same]);
    }
    for (std::size_t r = 0; r < planned["activation_bytes"].size(); ++r)
      CHECK(planned["activation_bytes"][r].get<double>() ==
            doctest::Approx(done["activation_bytes"][r].get<double>()).epsilon(0.02));
  }
  CHECK(!fs::exists(directory() / "none.json"));
  auto const large = train_gpt2("--dry-run --model gpt2 --ranks 4 --schedule flush");
  CHECK(large.code == 0);
  CHECK(large.out.find("163037184") != std::string::npos);
}

TEST_CASE("flush holds less than GPipe, recomputation less than keeping") {
  auto const activations = [](json const& j) {
    auto const all = j["activation_bytes"].get<std::vector<double>>();
    return std::accumulate(all.begin(), all.end(), 0.);
  };
  std::string const common = " --ranks 3 --micro-batches 8 --steps 1";
  auto const gpipe = trained("--schedule gpipe" + common), flush = trained("--schedule flush" + common),
             again = trained("--schedule gpipe --recompute always" + common);
  CHECK(activations(flush) < 0.5 * activations(gpipe));
  CHECK(activations(again) < 0.5 * activations(gpipe));
}

TEST_CASE("traces and figures are written whole") {
  auto const trace = directory() / "trace.json", picture = directory() / "trace.svg",
             figures = directory() / "figures.json";
  std::string const run = "--model tiny --length 16 --steps 3 --ranks 2 --micro-batches 4 --quiet" + data();
  REQUIRE(train_gpt2(run + "--trace '" + trace.string() + "' --json '" + figures.string() + "'").code == 0);
  auto const events = json::parse(content(trace))["traceEvents"];
  auto const forwards = std::count_if(events.begin(), events.end(), [](json const& e) {
    return e["ph"] == "X" && e["name"].get<std::string>().find('F') == 1 && e["cat"] == "forward";
  });
  CHECK(forwards == 2 * 4);  // one step
  CHECK(json::parse(content(figures))["losses"].size() == 3);
  REQUIRE(train_gpt2(run + "--schedule 1f1b --trace '" + picture.string() + "'").code == 0);
  CHECK(content(picture).find("<svg") == 0);
  CHECK(content(picture).find("measured") != std::string::npos);
}

TEST_CASE("lines on the way") {
  auto const result =
      train_gpt2("--model tiny --length 16 --steps 20 --eval-every 10 --ranks 2 --micro-batches 2" + data());
  CHECK(result.code == 0);
  for (auto const* line :
       {"stage 0 on rank 0: embedding + blocks 0-", "step     1  loss", "step    10  loss", "step    20  loss",
        "perplexity", "bubble predicted", "rank  in flight  weight versions  activations"}) {
    CAPTURE(line);
    CHECK(result.out.find(line) != std::string::npos);
  }
  auto const help = train_gpt2("--help");
  CHECK(help.code == 0);
  for (auto const* option : {"--schedule", "--ranks", "--micro-batches", "--chunks", "--balance", "--model", "--data",
                             "--steps", "--learning-rate", "--optimizer", "--clip", "--dropout", "--seed",
                             "--recompute", "--eval-every", "--trace", "--json", "--dry-run"})
    CHECK(help.out.find(option) != std::string::npos);
}

TEST_CASE("the demo runs all schedules, and keeps its figures and pictures") {
  auto const folder = directory() / "demo";
  auto const result = train_gpt2("demo --model tiny --length 16 --steps 2 --ranks 2 --micro-batches 4 -o '" +
                                 folder.string() + "'" + data());
  CAPTURE(result.err);
  REQUIRE(result.code == 0);
  auto const figures = json::parse(content(folder / "demo.json"));
  std::map<std::string, json> runs;
  for (auto const& each : figures["runs"]) {
    auto const name = each["schedule"].get<std::string>();
    runs[name] = each;
    for (auto const* kind : {"predicted", "measured"}) {
      CHECK(content(folder / (name + "-" + kind + ".svg")).find("<svg") == 0);
      CHECK(json::parse(content(folder / (name + "-" + kind + ".json")))["traceEvents"].size() > 8);
    }
  }
  REQUIRE(runs.size() == 7);
  auto const activations = [&](std::string const& name) {
    auto const all = runs[name]["activation_bytes"].get<std::vector<double>>();
    return std::accumulate(all.begin(), all.end(), 0.);
  };
  CHECK(runs["flush"]["losses"] == runs["gpipe"]["losses"]);
  CHECK(activations("flush") < activations("gpipe"));
  REQUIRE(figures["gpipe_bubble"].size() == 6);
  for (int i = 0; i < 6; ++i) {
    auto const& row = figures["gpipe_bubble"][i];
    CHECK(row["micro_batches"] == 1 << i);
    CHECK(row["formula"].get<double>() == doctest::Approx(1. / ((1 << i) + 1)));
    for (auto const* share : {"bubble_predicted", "bubble_measured"}) CHECK(row[share].get<double>() < 1);
    if (i > 0) CHECK(row["bubble_predicted"] < figures["gpipe_bubble"][i - 1]["bubble_predicted"]);
  }
}

TEST_CASE("what cannot be done is refused with one sentence, and nothing is written") {
  is_refused("--schedule zigzag", "no schedule named zigzag");
  is_refused("--schedule forward-only", "does not train");
  is_refused("--ranks 0", "--ranks");
  is_refused("--ranks 100000000000", "--ranks");
  is_refused("--ranks four", "--ranks");
  is_refused("--micro-batches 0", "--micro-batches");
  is_refused("--micro-batches -3", "--micro-batches");
  is_refused("--micro-batches 99999999", "--micro-batches");
  is_refused("--steps 0", "--steps");
  is_refused("--schedule flush --chunks 2 --ranks 2", "chunk");
  is_refused("--schedule interleaved --chunks 1 --ranks 2", "flush");
  is_refused("--schedule interleaved --ranks 4 --micro-batches 6 --group 5", "group");
  is_refused("--ranks 20", "20 stages cannot be made of 10 layers");
  is_refused("--ranks 2 --balance 5,6", "10 layers");
  is_refused("--ranks 2 --balance 5,3,2", "names 3 stages");
  is_refused("--ranks 2 --balance 10,0", "at least one");
  is_refused("--ranks 2 --balance ten", "--balance");
  is_refused("--model huge", "no model 'huge'");
  is_refused("--model layers=0", "layers cannot be '0'");
  is_refused("--model layers=99999999999", "layers cannot be");
  is_refused("--model depth=3", "no size 'depth'");
  is_refused("--model width=10,heads=3", "not a multiple of 3 heads");
  is_refused("--model vocabulary=100", "at least 256");
  is_refused("--model layers=1024,width=65536,heads=1 --sequences 1", "memory");
  is_refused("--length 65", "64 positions");
  is_refused("--sequences 4096 --model positions=1048576 --length 1048576", "more than the 16777216");
  is_refused("--dropout 1", "--dropout");
  is_refused("--dropout -0.5", "--dropout");
  is_refused("--learning-rate fast", "--learning-rate");
  for (auto const* number : {"--learning-rate", "--clip", "--pace", "--deadline", "--weight-decay", "--dropout"})
    is_refused(std::string(number) + " nan", number);
  is_refused("--seed -1", "--seed");
  is_refused("--seed 18446744073709551616", "--seed");
  is_refused("--optimizer lion", "--optimizer");
  is_refused("--recompute sometimes", "--recompute");
  is_refused("--schedule 1f1b --clip 1", "stashing");
  is_refused("--schedule 1f1b --tied", "stashing");
  is_refused("--schedule 2bw --accumulate 2 --model tiny --quiet" + data(), "accumulate");
  is_refused("--unknown", "--unknown");
  is_refused("stray", "stray");
  is_refused("--data /nonexistent/text", "cannot be opened");
  is_refused("--dry-run --data /nonexistent/text", "cannot be opened");
  is_refused("demo --data /nonexistent/text -o '" + (directory() / "none").string() + "'", "cannot be opened");
  CHECK(!fs::exists(directory() / "none"));
  is_refused("--data '" + directory().string() + "'", "cannot be opened");
  is_refused("--data '" + file_with("empty", "").string() + "'", "is empty");
  is_refused("--data '" + file_with("short", "too short").string() + "'", "too few");
  is_refused("--weights /nonexistent/weights" + data(), "cannot be opened");
  is_refused("--weights '" + file_with("bad", "not a safetensors file").string() + "'" + data(), "safetensors");
  is_refused("--json /nonexistent/figures.json", "no directory");
  is_refused("--json '" + directory().string() + "'", "is a directory");
  is_refused("--trace /nonexistent/trace.json", "no directory");
  auto const diverging = train_gpt2(
      "--model tiny --length 16 --optimizer sgd --learning-rate 1000 --rate-shape constant --warm-up 0 --steps 50 "
      "--ranks 2 --json '" +
      (directory() / "diverged.json").string() + "'" + data());
  CHECK(diverging.code == 2);
  CHECK(diverging.err.find("no longer a number") != std::string::npos);
  CHECK(!fs::exists(directory() / "diverged.json"));
  for (auto const& each : fs::directory_iterator(directory()))
    CHECK(each.path().filename().string().find(".part") == std::string::npos);
}
