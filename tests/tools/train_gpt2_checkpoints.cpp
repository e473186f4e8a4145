// SPDX-License-Identifier: Apache-2.0
// Runs train_gpt2 as people do, kills it, and lets it go on: the losses and the files of a run that nobody stopped.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <support/tool.hpp>
#include <sys/wait.h>
#include <unistd.h>

namespace {

namespace fs = std::filesystem;
using json = nlohmann::json;

using support::content;

/// A new path in a directory that goes away.
std::string fresh(std::string const& name) {
  static int count = 0;
  return (support::scratch_directory() / (std::to_string(count++) + "-" + name)).string();
}

/// Contexts of lengths that differ.
std::string squad() {
  static auto const path = [] {
    json paragraphs = json::array();
    for (int i = 0; i < 23; ++i)
      paragraphs.push_back(
          {{"context", std::string(static_cast<std::size_t>(1 + i * 5 % 17), static_cast<char>('a' + i))},
           {"qas", json::array()}});
    auto const file = fresh("squad.json");
    std::ofstream(file) << json{{"version", "1.1"}, {"data", {{{"title", "t"}, {"paragraphs", paragraphs}}}}};
    return file;
  }();
  return path;
}

/// As llm.c writes them.
std::string tokens() {
  static auto const path = [] {
    auto const file = fresh("tokens.bin");
    std::ofstream out(file, std::ios::binary);
    std::vector<std::int32_t> head(256);
    head[0] = 20240520;
    head[1] = 1;
    head[2] = 500;
    out.write(reinterpret_cast<char const*>(head.data()), 1024);
    for (int i = 0; i < 500; ++i) out.put(static_cast<char>(i * i % 251)).put(0);
    return file;
  }();
  return path;
}

struct outcome {
  int code;
  std::string out, err;
};

outcome train_gpt2(std::string const& arguments) {
  auto const out = fresh("out"), err = fresh("err");
  int const status =
      std::system(("'" PIPEWRIGHT_TOOLS_DIR "/train_gpt2' " + arguments + " > '" + out + "' 2> '" + err + "'").c_str());
  return {WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), content(out), content(err)};
}

json trained(std::string const& arguments) {
  auto const result = train_gpt2(arguments + " --json -");
  CAPTURE(arguments);
  CAPTURE(result.err);
  REQUIRE(result.code == 0);
  CHECK(result.err.empty());
  return json::parse(result.out);
}

std::string const common =
    " --model layers=6,width=16,heads=2,positions=16 --sequences 2 --micro-batches 4 --dropout 0.1 --seed 3 "
    "--rate-shape constant --sample 0 ";

/// A train_gpt2 that is killed so long after it is `ready()`.
void kill_when(std::string const& arguments, auto&& ready, std::chrono::microseconds later = {}) {
  pid_t const child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    int const null = open("/dev/null", O_WRONLY);
    dup2(null, 1);
    execl("/bin/sh", "sh", "-c", ("exec '" PIPEWRIGHT_TOOLS_DIR "/train_gpt2' " + arguments).c_str(), nullptr);
    _exit(99);
  }
  auto const limit = std::chrono::steady_clock::now() + std::chrono::minutes(2);
  while (!ready() && std::chrono::steady_clock::now() < limit)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  std::this_thread::sleep_for(later);
  REQUIRE(kill(child, SIGKILL) == 0);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  REQUIRE(WIFSIGNALED(status));  // it was under way
}

/// The files of a checkpoint but for the words that it was made with.
std::map<std::string, std::string> files_of(std::string const& folder) {
  std::map<std::string, std::string> all;
  for (auto const& each : fs::directory_iterator(folder))
    if (auto const name = each.path().filename().string(); name != "training.json") all[name] = content(each.path());
  REQUIRE(all.size() == 2 + 2 * 8);
  return all;
}

std::vector<double> tail(json const& losses) {
  auto const all = losses.get<std::vector<double>>();
  REQUIRE(all.size() == 20);
  return {all.begin() + 10, all.end()};
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

TEST_CASE("a model of token files may have fewer tokens than there are bytes") {
  auto const run = trained(" --model layers=2,width=16,heads=2,positions=16,vocabulary=251 --data " + tokens() +
                           " --ranks 2 --sequences 4 --micro-batches 2 --steps 2");
  CHECK(run["losses"].size() == 2);
}

TEST_CASE("ten steps, a kill and ten more are twenty steps, for every schedule and number of ranks") {
  for (std::string const schedule : {"sequential", "gpipe", "flush", "interleaved", "1f1b", "1f1b-vsync", "2bw"}) {
    CAPTURE(schedule);
    auto const run = common + " --ranks 4 --schedule " + schedule;
    auto const whole = fresh("whole"), killed = fresh("killed");
    auto const straight = trained(run + " --steps 20 --eval-every 10 --save " + whole);  // drains after step 10
    kill_when(run + " --steps 1000000 --save-every 10 --keep 1000000 --save " + killed,
              [&] { return fs::exists(killed + "/step-10"); });
    bool const by_p = schedule.starts_with("1f1b");
    std::vector<std::string> ways{""};
    if (!by_p) ways.insert(ways.end(), {" --ranks 2", " --ranks 1"});
    if (schedule == "gpipe") ways = {" --ranks 2 --schedule flush", " --ranks 1 --schedule sequential"};
    if (schedule == "interleaved") ways = {" --ranks 2", " --ranks 4 --schedule gpipe"};
    for (auto const& way : ways) {
      CAPTURE(way);
      auto const again = fresh("again");
      auto const resumed = trained("--resume " + killed + "/step-10 --steps 20 --save " + again + way + " --sample 0");
      CHECK(resumed["resumed_at"] == 10);
      CHECK(resumed["losses"].get<std::vector<double>>() == tail(straight["losses"]));
      CHECK(resumed["held_out"].back() == straight["held_out"].back());
      CHECK((files_of(again + "/step-20") == files_of(whole + "/step-20")));
    }
    if (by_p) is_refused("--resume " + killed + "/step-10 --steps 20 --ranks 2", "goes on with 4, not with 2");
  }
}

TEST_CASE("documents and tokens go on where they were") {
  for (auto const& data :
       {squad() + " --loss-on real --clip 1", squad() + " --order by-length --pad-to 16 --length 12 --tied",
        tokens() + " --length 9 --order as-they-stand --accumulate 2"}) {
    CAPTURE(data);
    auto const run = common + " --ranks 2 --schedule gpipe --steps 20 --data " + data;
    auto const whole = fresh("whole"), again = fresh("again");
    auto const straight = trained(run + " --save-every 10 --keep 2 --save " + whole);
    CHECK(straight["held_out"].empty());
    auto const resumed =
        trained("--resume " + whole + "/step-10 --ranks 4 --schedule flush --sample 0 --save " + again);
    CHECK(resumed["losses"].get<std::vector<double>>() == tail(straight["losses"]));
    CHECK((files_of(again + "/step-20") == files_of(whole + "/step-20")));
  }
}

TEST_CASE("a program killed while it saves at every step leaves a checkpoint to go on from") {
  auto const folder = fresh("folder");
  auto const run = common + " --ranks 2 ";
  auto const straight = trained(run + " --steps 100 ")["losses"].get<std::vector<double>>();
  auto engine = std::mt19937(8);
  std::string go_on = run;
  long last = 0;
  for (int round = 0; round < 6; ++round) {
    auto const newest = [&] {
      long steps = 0;
      std::error_code code;
      for (auto const& each : fs::directory_iterator(folder, code))
        if (auto const name = each.path().filename().string(); name.starts_with("step-"))
          steps = std::max(steps, std::stol(name.substr(5)));
      return steps;
    };
    kill_when(
        go_on + " --steps 1000000 --save-every 1 --save " + folder, [&] { return newest() > last; },
        std::chrono::microseconds(engine() % 20'000));
    last = newest();
    go_on = "--resume " + folder + " --sample 0";
  }
  REQUIRE(last > 5);
  auto const after = trained("--resume " + folder + " --steps " + std::to_string(last + 3) + " --sample 0");
  CHECK(after["resumed_at"] == last);
  if (last + 3 <= 100) {
    auto const from = straight.begin() + last;
    CHECK(after["losses"].get<std::vector<double>>() == std::vector<double>(from, from + 3));
  }
}

TEST_CASE("a saved model is one to start from") {
  auto const saved = fresh("saved");
  auto const first = trained(common + " --ranks 2 --steps 12 --save " + saved);
  auto const model = saved + "/step-12";
  // The folder says the model and its dropout; the held-out loss of a first step hardly differs from the last one's.
  auto const from = trained("--weights " + model + " --sequences 2 --micro-batches 4 --seed 3 --ranks 3 --steps 1 " +
                            "--learning-rate 0 --rate-shape constant --sample 0");
  CHECK(from["model"] == first["model"]);
  CHECK(from["held_out"].back()["loss"] == first["held_out"].back()["loss"]);
  is_refused("--weights " + model + " --model small", "is not the model of");
}

TEST_CASE("a tokenizer's tokens") {
  std::string const tokenizer = " --tokenizer " PIPEWRIGHT_SOURCE_DIR "/tests/tokenizer/fixtures/folder ";
  std::string const model = "--model layers=2,width=8,heads=2,positions=16,vocabulary=1200 --ranks 2 --steps 2 ";
  auto const documents = trained(model + tokenizer + "--data " + squad() + " --loss-on real --clip 1");
  CHECK(documents["losses"][0].get<double>() == doctest::Approx(std::log(1200.)).epsilon(0.1));
  CHECK(documents["sample"].get<std::string>().size() > 20);
  CHECK(trained(model + tokenizer)["held_out"].size() == 1);
  is_refused("--model small" + tokenizer, "the model's vocabulary is 256");
  is_refused("--tokenizer /nonexistent", "/nonexistent");
}

TEST_CASE("what cannot be saved or resumed is refused with one sentence, and nothing is written") {
  auto const saved = fresh("saved");
  trained(common + " --ranks 2 --steps 2 --save " + saved);
  auto const resume = "--resume " + saved + " --steps 4 ";
  is_refused("--resume /nonexistent", "holds no checkpoint");
  is_refused("--resume " + saved, "has done 2 steps already");
  is_refused(resume + "--seed 4", "--seed 3 cannot become 4");
  is_refused(resume + "--optimizer sgd", "--optimizer adamw cannot become sgd");
  is_refused(resume + "--tied", "--tied");
  is_refused(resume + "--micro-batches 8", "--micro-batches 4 cannot become 8");
  is_refused(resume + "--schedule 2bw", "cannot go on under 2bw");
  is_refused(resume + "--model small", "is not the model of");
  is_refused(resume + "--weights " + saved, "leave out --weights");
  is_refused(
      "--model layers=6,width=16,heads=2,positions=32 --weights " + saved + "/step-2/model.safetensors.index.json",
      "wpe.weight of " + saved + "/step-2/model.safetensors.index.json has the shape 16 x 16 instead of 32 x 16");
  is_refused(resume + "--schedule zigzag", "zigzag");
  is_refused("--save " + saved + " --steps 1", "of another training");
  is_refused("--save-every 10", "add --save");
  is_refused("--save /nonexistent/folder", "no directory");
  is_refused("--save " + squad(), "is a file");
  is_refused("--save " + fresh("x") + " --accumulate 2 --steps 3", "multiples of --accumulate 2");
  is_refused("--data " + squad() + " --eval-every 3", "held-out");
  is_refused("--data " + squad() + " --length 9 --pad-to 8", "less than --length 9");
  is_refused("--pad-to 8", "documents");
  is_refused("--data " + squad() + " --pad-to 80", "do not fit");
  is_refused("--loss-on some", "--loss-on");
  is_refused("--data " + squad() + " --loss-on real --schedule 1f1b", "stashing");
  is_refused("--balance type:GPT3Block", "is no cut");
  is_refused("--balance 3,,4", "where the layers of a stage");
  is_refused("--data " + tokens() + " --model layers=1,width=8,heads=1,vocabulary=200", "has token 2");
  CHECK(trained(resume + "--learning-rate 0.1 --seed 3 --sample 0")["losses"].size() == 2);  // said again, or anew
  CHECK(!fs::exists(saved + "/step-4"));
  auto const planned = trained(resume + " --dry-run --ranks 4");
  CHECK(planned["balance"].size() == 4);
  // A disk that is full while it saves: files cannot grow beyond 4 KiB.
  auto const full = fresh("out"), why = fresh("err");
  int const status = std::system(("trap '' XFSZ; ulimit -f 8; '" PIPEWRIGHT_TOOLS_DIR "/train_gpt2' " + resume +
                                  " --quiet --save " + saved + " > '" + full + "' 2> '" + why + "'")
                                     .c_str());
  CHECK(WEXITSTATUS(status) == 2);
  CHECK(content(why).find("File too large") != std::string::npos);
  CHECK(std::distance(fs::directory_iterator(saved), {}) == 1);
  CHECK(trained("--resume " + saved + " --steps 3 --sample 0")["resumed_at"] == 2);
}

TEST_CASE("cuts by name") {
  auto const balance = [](std::string const& cut) {
    return trained("--dry-run --ranks 4 --model layers=12,width=768,heads=12,vocabulary=50257 --balance " +
                   cut)["balance"];
  };
  CHECK(balance("type:GPT2Block") == std::vector{4, 3, 3, 4});
  CHECK(balance("4,3,3,4") == std::vector{4, 3, 3, 4});
  auto const uniform = balance("uniform").get<std::vector<int>>();
  CHECK(*std::ranges::max_element(uniform) == 4);
  CHECK(balance("parameters") != balance("cost"));
}
