// SPDX-License-Identifier: Apache-2.0
// Runs schedule_planner as people do and looks at what it prints, writes and returns.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <support/tool.hpp>

namespace {

namespace fs = std::filesystem;
using json = nlohmann::ordered_json;

using support::content;

fs::path const& directory() { return support::scratch_directory(); }
support::outcome planner(std::string const& arguments) { return support::run_tool("schedule_planner", arguments); }

/// Six layers, the last of which weighs three of the others.
json profile() {
  json layers = json::array();
  for (int i = 0; i < 6; ++i) {
    double const weight = i == 5 ? 3 : 1;
    layers.push_back({{"name", i == 5 ? "head" : "block"},
                      {"forward", 1e-3 * weight},
                      {"backward_input", 1e-3 * weight},
                      {"backward_weight", 1e-3 * weight},
                      {"saved_bytes", 1e6},
                      {"output_bytes", 1e5},
                      {"parameter_bytes", 1e6 * weight},
                      {"gradient_bytes", 1e6 * weight},
                      {"optimizer_bytes", 2e6 * weight}});
  }
  return {{"format", "pipewright-profile"},
          {"version", 1},
          {"model", "six layers"},
          {"samples", 1},
          {"input_bytes", 100},
          {"target_bytes", 100},
          {"layers", layers}};
}
std::string file_with(std::string_view text) { return "'" + support::file_with("profile.json", text).string() + "'"; }
std::string file_of(json const& j) { return file_with(j.dump()); }
bool says(std::string const& text, std::string_view part) { return text.find(part) != text.npos; }

}  // namespace

TEST_CASE("a table with reasons, and the flags of the best") {
  auto const result = planner(file_of(profile()) + " --devices 4 --batch 8 --schedules flush,gpipe --memory 1GiB");
  CHECK(result.code == 0);
  CHECK(result.err == "");
  CHECK(says(result.out, "six layers: 6 layers, 4 ranks, batch 8"));
  // 24 ms of work a sample: 48 ms on four ranks for eight of them. The head's 9 ms bound a cut: 72 ms, and 15 ms to fill.
  CHECK(says(result.out, "no plan beats 48 ms a step (166.7 samples/s)"));
  CHECK(says(result.out,
             "\n1   flush     8  1  1        never      87 ms   91.95      55.2 %    48 ms  24 ms      15 ms   0 "));
  CHECK(says(result.out, "as fast, holds"));
  CHECK(says(
      result.out,
      "train_gpt2 --schedule flush --ranks 4 --micro-batches 8 --sequences 1 --balance 2,2,1,1 --recompute never\n"));
}

TEST_CASE("what replicas would bring is said, and nothing more") {
  // Without a price of links, four devices that share the micro-batches do a quarter of the work each.
  auto const with = planner(file_of(profile()) + " --devices 4 --batch 8 --schedules flush");
  CHECK(says(with.out, "not runnable yet: by PipeDream's account"));
  CHECK(says(with.out, "would train 166.7 samples/s: layers 0 to 5 on 4 devices\n"));
  // Where weights pass slowly, a device of its own for each stage is best, and none is said.
  std::string const slow = " --devices 2 --batch 8 --schedules flush --balance 4,2 --link 1MB/s";
  auto const without = planner(file_of(profile()) + slow);
  CHECK(without.code == 0);
  CHECK(!says(without.out, "replicas"));
  auto const found = json::parse(planner(file_of(profile()) + slow + " --json").out).at("with_replicas");
  CHECK(found.at("runnable") == false);
  CHECK(found.at("stages").size() == 2);
  CHECK(!says(planner(file_of(profile()) + " --devices 2 --batch 8 --pace 1,2").out, "replicas"));
  auto slow_somewhere = profile();
  slow_somewhere["links"] = {{{"from", 0}, {"to", 1}, {"latency", 0}, {"bandwidth", 1e6}}};
  std::string const same = " --devices 2 --batch 8 --schedules flush --balance 4,2 --json";
  CHECK(json::parse(planner(file_of(slow_somewhere) + same).out).at("with_replicas") == found);
  // A link that no two of the devices have counts for nothing, nor does what is said of links that are all said.
  auto elsewhere = slow_somewhere;
  elsewhere["link"] = {{"latency", 0}, {"bandwidth", 1}};
  elsewhere["links"].push_back({{"from", 2}, {"to", 0}, {"latency", 0}, {"bandwidth", 1e-310}});
  auto const left_out = planner(file_of(elsewhere) + same);
  CHECK(json::parse(left_out.out).at("with_replicas") == found);
  CHECK(left_out.err == "schedule_planner: 1 of the profile's 2 links joins ranks beyond --devices 2; left out\n");
  // What is slower than the best plan is not worth a word: a step counts one all-reduce for each micro-batch.
  auto dear = profile();
  for (auto& layer : dear["layers"]) layer["output_bytes"] = 1e5, layer["parameter_bytes"] = 1e4;
  dear["layers"][2]["output_bytes"] = dear["layers"][3]["output_bytes"] = 10;
  dear["link"] = {{"latency", 0}};
  dear["links"] = {{{"from", 1}, {"to", 2}, {"latency", 0}, {"bandwidth", 1e5}}};
  auto const best_is_faster = planner(file_of(dear) + " --devices 4 --batch 32");
  CHECK(best_is_faster.code == 0);
  CHECK(!says(best_is_faster.out, "replicas"));
  CHECK(json::parse(planner(file_of(dear) + " --devices 4 --batch 32 --json").out)
            .at("with_replicas")
            .at("stages")
            .size() < 4);
}

TEST_CASE("a profile's links are those that count, unless others are said") {
  auto measured = profile();
  measured["link"] = {{"latency", 0}};  // nothing said of a bandwidth
  measured["links"] = {{{"from", 1}, {"to", 0}, {"latency", 0.001}, {"bandwidth", 1e8}}};
  auto const communication = [&](std::string const& more) {
    auto const all = planner(
        file_of(measured) + " --devices 3 --batch 1 --schedules gpipe --balance 2,2,2 --recompute never --json" + more);
    return json::parse(all.out).at("candidates")[0].at("parts").at("communication").get<double>();
  };
  CHECK(communication("") == doctest::Approx(2 * (1e-3 + 1e5 / 1e8)));
  CHECK(communication(" --link 1GB/s,1ms") == doctest::Approx(4 * (1e-3 + 1e5 / 1e9)));
}

TEST_CASE("as JSON, as pictures, as code") {
  auto const prefix = (directory() / "plan").string(), code = (directory() / "plan.hpp").string();
  auto const result = planner(file_of(profile()) + " --devices 2 --batch 4 --json --draw '" + prefix + "' --emit '" +
                              code + "' --link 1GB/s,5us --memory 64MiB");
  CHECK(result.code == 0);
  auto const all = json::parse(result.out);
  CHECK(all["bound_seconds"].get<double>() == doctest::Approx(0.048));
  REQUIRE(all["candidates"].size() > 4);
  double last = 0;
  for (auto const& each : all["candidates"]) {
    if (each["is"] != "fits") continue;
    double const seconds = each["seconds"].get<double>();
    CHECK(seconds >= last * (1 - 1e-8));
    last = seconds;
    double sum = 0;
    for (auto const& part : each["parts"]) sum += part.get<double>();
    CHECK(sum == doctest::Approx(seconds));
    for (auto const& memory : each["memory"]) CHECK(memory["total"].get<double>() <= 64 * 1048576.);
  }
  for (std::string const name : {"-1.svg", "-2.svg", "-3.svg", "-memory.svg"}) {
    CAPTURE(name);
    CHECK(content(prefix + name).starts_with("<svg "));
    CHECK(content(prefix + name).ends_with("</svg>\n"));
  }
  CHECK(says(content(prefix + "-memory.svg"), "limit 64.0 MiB"));
  CHECK(says(content(code), "// train_gpt2 --schedule "));
}

TEST_CASE("the code that is written compiles, and the flags are the trainer's") {
  for (std::string const schedule : {"flush", "interleaved", "1f1b-vsync"})
    for (std::string const recompute : {"never", "except_last", "always"}) {
      CAPTURE(schedule);
      CAPTURE(recompute);
      auto const code = (directory() / "choice.hpp").string();
      auto const chosen = planner(file_of(profile()) + " --devices 2 --batch 4 --schedules " + schedule +
                                  " --recompute " + recompute + " --emit '" + code + "'");
      REQUIRE(chosen.code == 0);
      auto const compiled =
          support::run("c++ -std=c++20 -fsyntax-only -x c++ -I'" PIPEWRIGHT_SOURCE_DIR "/include' '" + code + "'");
      CAPTURE(compiled.err);
      CHECK(compiled.code == 0);
      auto const at = chosen.out.rfind("train_gpt2 ");
      auto const flags = chosen.out.substr(at + 11, chosen.out.size() - at - 12);
      std::string const model = " --model layers=4,width=16,heads=2,positions=16 --dry-run";
      auto const by_flags = support::run_tool("train_gpt2", flags + model);
      CAPTURE(by_flags.err);
      CHECK(by_flags.code == 0);
      auto const by_file = support::run_tool("train_gpt2", "--plan '" + code + "'" + model);
      CAPTURE(by_file.err);
      CHECK(by_file.code == 0);
      CHECK(by_file.out == by_flags.out);
      CHECK(by_file.out != support::run_tool("train_gpt2", "--ranks 2" + model).out);
    }
}

TEST_CASE("a model is profiled, planned for and trained") {
  auto const file = (directory() / "measured.json").string(), code = (directory() / "measured.hpp").string();
  std::string const model = "--model layers=3,width=16,heads=2,positions=16";
  auto const profiled = support::run_tool("profile_gpt2", model + " --sequences 2 --rounds 3 -o '" + file + "'");
  CAPTURE(profiled.err);
  REQUIRE(profiled.code == 0);
  CHECK(profiled.out.empty());
  auto const found = json::parse(content(file));
  REQUIRE(found.at("layers").size() == 5);
  CHECK(found.at("samples") == 2);
  CHECK(found.at("input_bytes") == 4 * 2 * 16 + 8);
  CHECK(found.at("target_bytes") == found.at("input_bytes"));
  double const block = 4. * (12 * 16 * 16 + 13 * 16);
  for (int i = 1; i < 4; ++i) {
    auto const& l = found.at("layers")[static_cast<std::size_t>(i)];
    CHECK(l.at("name") == "block " + std::to_string(i - 1));
    CHECK(l.at("parameter_bytes") == block);
    CHECK(l.at("gradient_bytes") == block);
    CHECK(l.at("optimizer_bytes") == 2 * block);
    CHECK(l.at("output_bytes") == 4 * 2 * 16 * 16 + 8);
    CHECK(l.at("keeps_input") == true);
    for (auto const* time : {"forward", "backward_input", "backward_weight", "recompute", "update"})
      CHECK(l.at(time) > 0);
  }
  REQUIRE(planner("'" + file + "' --devices 2 --batch 8 --emit '" + code + "'").code == 0);
  auto const trained =
      support::run_tool("train_gpt2", "--plan '" + code + "' " + model + " --steps 2 --sample 0 --quiet");
  CAPTURE(trained.err);
  CHECK(trained.code == 0);

  CHECK(json::parse(support::run_tool("profile_gpt2", model + " --rounds 1").out).at("samples") == 4);
  CHECK(support::run_tool("profile_gpt2", "--help").code == 0);
  for (auto const& [words, why] :
       {std::pair("--length 17 " + model, "sequences of 17 tokens do not fit the model's 16 positions"),
        std::pair(std::string("--model heads=4,width=6"), "heads"),
        std::pair(std::string("--sequences 4096 --model positions=1048576,width=4,heads=1"), "held at once"),
        std::pair(std::string("--rounds 0"), "--rounds"), std::pair(std::string("--model huge"), "huge"),
        std::pair("-o /nonexistent/x.json --rounds 1 " + model, "/nonexistent/x.json")}) {
    auto const refused = support::run_tool("profile_gpt2", words);
    CAPTURE(refused.err);
    CHECK(refused.code == 2);
    CHECK(says(refused.err, why));
    CHECK(refused.out.empty());
  }
}

TEST_CASE("a plan is run, said in part, and refused where it is contradicted or none") {
  auto const code = (directory() / "run.hpp").string();
  REQUIRE(planner(file_of(profile()) + " --devices 2 --batch 4 --emit '" + code + "'").code == 0);
  auto const train = [&](std::string const& more) {
    return support::run_tool("train_gpt2", "--plan '" + code +
                                               "' --model layers=4,width=16,heads=2,positions=16 --steps 2 --length 8 "
                                               "--sample 0 " +
                                               more);
  };
  auto const result = train("--ranks 2 --json -");
  CAPTURE(result.err);
  REQUIRE(result.code == 0);
  CHECK(json::parse(result.out).at("losses").size() == 2);
  CHECK(says(train("--recompute always").err, "--recompute always contradicts"));
  auto const contradicted = train("--ranks 3");
  CHECK(contradicted.code == 2);
  CHECK(says(contradicted.err, "--ranks 3 contradicts " + code + ", which says 2; leave the option out"));
  auto const with = [&](std::string const& text) {
    std::ofstream(code) << text;
    return train("");
  };
  for (auto const& [text, why] :
       {std::pair("int x;\n", "holds no plan"), std::pair("", "holds no plan"),
        std::pair("// train_gpt2 --steps 3\n", "'--steps', which is nothing that a plan says"),
        std::pair("// train_gpt2 --ranks\n", "says no value for --ranks"),
        std::pair("// train_gpt2 --ranks two\n", "--ranks")}) {
    auto const refused = with(text);
    CAPTURE(text);
    CAPTURE(refused.err);
    CHECK(refused.code == 2);
    CHECK(says(refused.err, why));
  }
  fs::remove(code);
  CHECK(says(train("").err, "cannot read " + code));
}

TEST_CASE("where nothing fits: the smallest change") {
  auto const little = planner(file_of(profile()) + " --devices 2 --batch 4 --memory 1MB");
  CHECK(little.code == 1);
  CHECK(little.out == "");
  CHECK(says(little.err, "nothing fits into 977 KiB a rank; the smallest change that gives a plan is --memory "));
  auto const at = little.err.find("--memory ") + 9;
  auto const enough = little.err.substr(at, little.err.find(' ', at) - at);
  CHECK(planner(file_of(profile()) + " --devices 2 --batch 4 --memory " + enough).code == 0);
  CHECK(
      planner(file_of(profile()) + " --devices 2 --batch 4 --memory " + std::to_string(std::stoll(enough) - 1)).code ==
      1);
  auto const long_ones = planner(file_of(profile()) + " --devices 2 --batch 4 --most-actions 3");
  CHECK(long_ones.code == 1);
  CHECK(says(long_ones.err, " plans have more than 3 actions to simulate; --most-actions allows more"));
  auto const many = planner(file_of(profile()) + " --devices 7 --batch 4");
  CHECK(many.code == 1);
  CHECK(says(many.err, "7 ranks cannot share 6 layers; take at most 6 ranks"));
}

TEST_CASE("a question that is none") {
  auto const refused = [](std::string const& arguments) {
    auto const result = planner(arguments);
    CHECK(result.code == 2);
    CHECK(result.out == "");
    return result.err;
  };
  auto const good = file_of(profile());
  CHECK(says(refused(""), "schedule_planner: "));
  CHECK(says(refused(good + " --devices 2 --memory 4GX"), "--memory '4GX': expected is an amount of bytes as 80GiB"));
  CHECK(says(refused(good + " --devices 2 --link 5us"), "--link '5us': expected is a bandwidth"));
  CHECK(says(refused(good + " --devices 2 --schedules flsh"), "did you mean 'flush'?"));
  CHECK(says(refused(good + " --devices 2 --batch 4 --micro-batch 3"), "--micro-batch 3 does not divide --batch 4"));
  CHECK(says(refused(good + " --devices 2 --balance 3,4"), "--balance 3,4 must give every stage"));
  CHECK(says(refused(good + " --devices 2 --pace 1"), "a pace for each of them"));
  CHECK(says(refused("/nowhere/p.json --devices 2"), "cannot read /nowhere/p.json"));
  CHECK(planner("--help").code == 0);
  CHECK(says(planner("--help").out, "Usage: schedule_planner"));

  auto const wrong = [&](auto change) {
    auto j = profile();
    change(j);
    return refused(file_of(j) + " --devices 2");
  };
  CHECK(says(wrong([](json& j) { j["layers"][3]["forward"] = -1; }), "layer 3 has -1 as 'forward'"));
  CHECK(says(wrong([](json& j) { j["layers"][3].erase("saved_bytes"); }), "layer 3 lacks 'saved_bytes'"));
  CHECK(says(wrong([](json& j) { j["layers"][3]["wrok"] = 1; }), "layer 3 has a field 'wrok'"));
  CHECK(says(wrong([](json& j) { j["version"] = 2; }), "is of version 2; this program reads version 1"));
  CHECK(says(wrong([](json& j) { j["layers"] = json::array(); }), "at least one layer"));
  CHECK(says(wrong([](json& j) {
               for (auto& l : j["layers"]) l["forward"] = l["backward_input"] = l["backward_weight"] = 0;
             }),
             "take some time"));
  auto const linked = [&](json const& links) { return wrong([&](json& j) { j["links"] = links; }); };
  CHECK(says(linked(1), "has no list as 'links'"));
  CHECK(says(linked({{{"from", 0}, {"latency", 0}}}), "link 0 lacks 'to'"));
  CHECK(says(linked({{{"from", 0}, {"to", 0.5}, {"latency", 0}}}), "link 0 has no whole number"));
  CHECK(says(linked({{{"from", 1}, {"to", 1}, {"latency", 0}}}), "link 0 joins a rank with itself"));
  CHECK(says(linked({{{"from", 0}, {"to", 1}, {"latency", 0}, {"bandwidth", 0}}}), "link 0 has a bandwidth of 0"));
  CHECK(says(linked({{{"from", 0}, {"to", 1}, {"latency", 0}}, {{"from", 1}, {"to", 0}, {"latency", 0}}}),
             "link 1 is another one of ranks 1 and 0"));
  CHECK(says(refused(file_with(R"({"format":"pipewright-profile","format":1})") + " --devices 2"), "'format' twice"));
  CHECK(says(refused(file_with("{") + " --devices 2"), "is not JSON"));
}

/// Whether a text is a profile, by its description.
bool is_sound(std::string const& text) {
  std::size_t keys = 0, members = 0;
  auto const j = json::parse(
      text,
      [&](int, json::parse_event_t event, json&) {
        keys += event == json::parse_event_t::key;
        return true;
      },
      false);
  if (!j.is_object()) return false;
  auto const amount = [](json const& x) {
    return x.is_number() && std::isfinite(x.get<double>()) && x.get<double>() >= 0;
  };
  auto const has = [](json const& of, std::string const& key, auto const& judge) {
    return of.contains(key) && judge(of.at(key));
  };
  members = j.size();
  if (j.value("format", json()) != "pipewright-profile" || j.value("version", json()) != 1 ||
      !has(j, "samples", [](json const& x) { return x.is_number() && x.get<double>() >= 1; }) ||
      !has(j, "input_bytes", amount) || !has(j, "target_bytes", amount) ||
      !has(j, "layers", [](json const& x) { return x.is_array() && !x.empty(); }) ||
      members != (j.contains("model") ? 7u : 6u) || (j.contains("model") && !j.at("model").is_string()))
    return false;
  double work = 0;
  for (auto const& layer : j.at("layers")) {
    if (!layer.is_object()) return false;
    members += layer.size();
    std::size_t known = 0;
    for (std::string const each : {"forward", "backward_input", "backward_weight", "saved_bytes", "output_bytes",
                                   "parameter_bytes", "gradient_bytes", "optimizer_bytes"}) {
      if (!has(layer, each, amount)) return false;
      ++known;
    }
    for (std::string const each : {"recompute", "update", "spread", "workspace_bytes"}) {
      if (layer.contains(each) && !amount(layer.at(each))) return false;
      known += layer.contains(each);
    }
    if (layer.contains("name") && !layer.at("name").is_string()) return false;
    if (known + layer.contains("name") != layer.size()) return false;
    for (auto const* each : {"forward", "backward_input", "backward_weight"}) work += layer.at(each).get<double>();
  }
  return work > 0 && keys == members;  // nothing said twice
}

TEST_CASE("a thousand broken profiles: a sentence, or a plan of one that is still whole") {
  std::mt19937 engine(5);
  auto const whole = profile().dump();
  auto const below = [&](std::size_t n) { return static_cast<std::size_t>(engine() % n); };
  int const tries = 1000;
  int plans = 0;
  for (int i = 0; i < tries; ++i) {
    CAPTURE(i);
    std::string text = whole;
    for (std::size_t changes = 1 + below(3); changes > 0; --changes) {
      std::size_t const at = below(text.size());
      switch (below(5)) {
        case 0: text[at] = static_cast<char>(below(256)); break;
        case 1: text.erase(at, 1 + below(20)); break;
        case 2: text.insert(at, whole.substr(below(whole.size()), 1 + below(20))); break;
        case 3: text.resize(at); break;
        case 4:
          text.insert(at, std::vector<std::string>{"1e999", "-", "null", "[[[[", "\"", "9", "0.", "1e-400"}[below(8)]);
          break;
      }
      if (text.empty()) text = "x";
    }
    auto const result = planner(file_with(text) + " --devices 2 --batch 2 --memory 1TiB");
    REQUIRE((result.code == 0 || result.code == 2));
    if (result.code == 0) {
      CAPTURE(text);
      REQUIRE(is_sound(text));
      ++plans;
    } else {
      REQUIRE(result.out == "");
      REQUIRE(result.err.starts_with("schedule_planner: "));
      REQUIRE(std::count(result.err.begin(), result.err.end(), '\n') == 1);
    }
  }
  CHECK(plans < tries / 2);
}
