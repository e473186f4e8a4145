// SPDX-License-Identifier: Apache-2.0
// Writing safetensors: the bytes of the format's own library, whole files or nothing, shards and their index.
#include <algorithm>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <set>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <pipewright/error.hpp>
#include <pipewright/safetensors/safetensors.hpp>

namespace pw = pipewright;
namespace st = pipewright::safetensors;
namespace fs = std::filesystem;

namespace {

auto const fixtures = fs::path(PIPEWRIGHT_SOURCE_DIR "/tests/gpt2/fixtures");

struct folder {
  fs::path path = fs::temp_directory_path() / ("pipewright-written-" + std::to_string(std::random_device{}()));
  folder() { fs::create_directories(path); }
  ~folder() { fs::remove_all(path); }
};

auto bytes_of(fs::path const& path) -> std::string {
  auto in = std::ifstream(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}
void put(fs::path const& path, std::string const& bytes) { std::ofstream(path, std::ios::binary) << bytes; }

auto refusal(auto&& what) -> std::string {
  try {
    what();
  } catch (pw::error const& e) {
    return e.what();
  }
  return "";
}

auto views_of(st::file const& from) -> std::vector<st::tensor_view> {
  std::vector<st::tensor_view> all;
  for (auto const& [name, t] : from.tensors()) all.emplace_back(name, t.type, t.shape, from.bytes(name));
  return all;
}

auto entries(fs::path const& path) -> std::set<std::string> {
  std::set<std::string> names;
  for (auto const& each : fs::directory_iterator(path)) names.insert(each.path().filename());
  return names;
}

}  // namespace

TEST_CASE("files are written in the bytes of the format's own library") {
  auto const here = folder();
  auto compared = 0;
  for (auto const& each : fs::recursive_directory_iterator(fixtures)) {
    if (each.path().extension() != ".safetensors") continue;
    auto const read = st::file(each.path());
    if (read.metadata().size() > 1) continue;  // its library writes these in any order
    CAPTURE(each.path().string());
    auto tensors = views_of(read);
    std::shuffle(tensors.begin(), tensors.end(), std::mt19937(3));
    st::write(here.path / "again.safetensors", tensors, read.metadata());
    CHECK(bytes_of(here.path / "again.safetensors") == bytes_of(each.path()));
    ++compared;
  }
  CHECK(compared == 14);
}

TEST_CASE("what cannot be a file is refused before anything is written") {
  auto const here = folder();
  std::vector<float> const four(4, 1.f);
  auto const write = [&](std::vector<st::tensor_view> tensors) {
    return refusal([&] { st::write(here.path / "x.safetensors", std::move(tensors)); });
  };
  CHECK(write({{"a", {2, 2}, four}, {"a", {4}, four}}).find("two tensors are called a") != std::string::npos);
  CHECK(write({{"a", {5}, four}}).find("has 16 bytes, and its shape wants 20") != std::string::npos);
  CHECK(write({{"a", {UINT64_MAX, 2}, four}}).find("too many values") != std::string::npos);
  CHECK(write({{"__metadata__", {4}, four}}).find("rename it") != std::string::npos);
  CHECK(write({{"\xff", {4}, four}}).find("not UTF-8") != std::string::npos);
  CHECK(entries(here.path).empty());
  CHECK(write({}).empty());
  CHECK(st::file(here.path / "x.safetensors").tensors().empty());
}

TEST_CASE("a file that cannot be written whole leaves the old one, and nothing else") {
  auto const here = folder();
  std::vector<float> const values(100'000, 2.f);
  auto const path = here.path / "model.safetensors";
  put(path, "old");
  CHECK(refusal([&] { st::write(here.path / "absent" / "x", {}); }).find("choose another file or folder") !=
        std::string::npos);
  CHECK_THROWS_AS(st::write_durably(path,
                                    [](auto&& append) {
                                      append(std::string_view("half"));
                                      throw pw::error("no more");
                                    }),
                  pw::error);
  auto const before = std::signal(SIGXFSZ, SIG_IGN);
  rlimit limit{};
  REQUIRE(getrlimit(RLIMIT_FSIZE, &limit) == 0);
  auto small = limit;
  small.rlim_cur = 1000;
  REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);  // as a full disk: the file cannot grow
  auto const sentence = refusal([&] { st::write(path, {{"a", {100'000}, values}}); });
  setrlimit(RLIMIT_FSIZE, &limit);
  std::signal(SIGXFSZ, before);
  CHECK(sentence.find("cannot write " + path.string() + ": File too large") == 0);
  CHECK(bytes_of(path) == "old");
  CHECK(entries(here.path) == std::set<std::string>{"model.safetensors"});
}

TEST_CASE("a writer killed at any moment leaves one whole file or the other") {
  auto const here = folder();
  auto const path = here.path / "model.safetensors";
  std::vector<float> const one(30'000, 1.f), two(50'000, 2.f);
  st::write(path, {{"a", {30'000}, one}});
  auto const first = bytes_of(path);
  st::write(here.path / "other", {{"a", {50'000}, two}});
  auto const second = bytes_of(here.path / "other");
  auto engine = std::mt19937(4);
  for (int round = 0; round < 40; ++round) {
    auto const child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      for (;;) {
        st::write(path, {{"a", {50'000}, two}});
        st::write(path, {{"a", {30'000}, one}});
      }
    }
    usleep(static_cast<useconds_t>(engine() % 8000));
    kill(child, SIGKILL);
    REQUIRE(waitpid(child, nullptr, 0) == child);
    auto const found = bytes_of(path);
    REQUIRE((found == first || found == second));
  }
}

TEST_CASE("a link is replaced, and what it named stays") {
  auto const here = folder();
  put(here.path / "blob", "old");
  fs::create_symlink("blob", here.path / "link");
  st::write_durably(here.path / "link", std::string_view("new"));
  CHECK(bytes_of(here.path / "blob") == "old");
  CHECK(bytes_of(here.path / "link") == "new");
  CHECK_FALSE(fs::is_symlink(here.path / "link"));
}

TEST_CASE("a model in shards: each opened once, none too large, all values there") {
  auto const here = folder();
  auto const whole = st::file(fixtures / "types" / "all.safetensors");
  auto const tensors = views_of(whole);
  auto total = std::size_t{0};
  for (auto const& t : tensors) total += t.values.size();
  for (auto const largest : {std::size_t{1}, std::size_t{50}, std::size_t{100}, total - 1}) {
    auto const to = here.path / std::to_string(largest);
    st::write_folder(to, tensors, largest);
    CHECK(fs::exists(to / st::index_file_name));
    auto const read = st::checkpoint(to);
    CHECK(read.files().size() + 1 == entries(to).size());
    CHECK(read.names().size() == tensors.size());
    for (auto const& shard : read.files()) {
      auto bytes = std::uint64_t{0};
      for (auto const& [name, t] : shard.tensors()) bytes += t.end - t.begin;
      CHECK((bytes <= largest || shard.tensors().size() <= 3));  // one too large, and ones of no bytes
    }
    for (auto const& t : tensors) {
      CHECK(read.at(t.name).type == t.type);
      CHECK(read.at(t.name).shape == t.shape);
      CHECK(std::ranges::equal(read.bytes(t.name), t.values));
    }
  }
  auto const to = here.path / "100";
  st::write_folder(to, tensors, total);  // in one file now: the index goes
  CHECK_FALSE(fs::exists(to / st::index_file_name));
  CHECK(st::checkpoint(to).files().size() == 1);
  CHECK(bytes_of(to / st::single_file_name) == bytes_of(fixtures / "types" / "all.safetensors"));
}

TEST_CASE("an index and shards that do not belong together are refused") {
  auto const here = folder();
  std::vector<float> const four(4, 1.f);
  st::write(here.path / "one", {{"a", {4}, four}, {"b", {4}, four}});
  st::write(here.path / "two", {{"c", {4}, four}});
  st::write(here.path / "three", {{"c", {4}, four}, {"d", {4}, four}});
  auto const index = here.path / st::index_file_name;
  auto const open = [&](std::string const& text) {
    put(index, text);
    return refusal([&] { st::checkpoint{here.path}; });
  };
  CHECK(open(R"({"weight_map":{"a":"one","b":"one","c":"two"}})").empty());
  CHECK(open(R"({"metadata":{"total_size":[1,{"x":null}]},"weight_map":{"a":"one","b":"one"},"more":-1.5e3})").empty());
  CHECK(open("{}").find("there is no weight_map") != std::string::npos);
  CHECK(open(R"({"weight_map":{"a":"one","a":"one","b":"one"}})").find("a stands twice") != std::string::npos);
  CHECK(open(R"({"weight_map":{},"weight_map":{}})").find("weight_map stands twice") != std::string::npos);
  CHECK(open(R"({"weight_map":{"a":"one","b":"one","c":"one"}})").find("says that tensor c is in") !=
        std::string::npos);
  CHECK(open(R"({"weight_map":{"a":"one"}})").find("does not name tensor b of") != std::string::npos);
  CHECK(open(R"({"weight_map":{"c":"two","d":"three"}})").find("has tensor c in two shards") != std::string::npos);
  CHECK(open(R"({"weight_map":{"a":"absent"}})").find("cannot be opened: No such file") != std::string::npos);
  for (auto const* name : {"../one", "/etc/passwd", ".", "", "a/../one"}) {
    CHECK(open(R"({"weight_map":{"a":")" + std::string(name) + R"("}})").find("not a plain file name") !=
          std::string::npos);
  }
  CHECK(open(R"({"weight_map":{"a":1}})").find("expected \"") != std::string::npos);
  fs::remove(index);
  CHECK(refusal([&] { st::checkpoint{here.path}; }).find("holds no weights") != std::string::npos);
  CHECK(refusal([&] { st::checkpoint{here.path / "absent"}; }).find("check the path") != std::string::npos);
  auto const one = st::checkpoint(here.path / "one");
  CHECK(refusal([&] { static_cast<void>(one.at("z")); }).find("has no tensor z") != std::string::npos);
}
