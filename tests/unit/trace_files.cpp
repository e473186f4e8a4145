// SPDX-License-Identifier: Apache-2.0
// thread sanitizer: --full
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

#include <pipewright/plan/plan.hpp>
#include <pipewright/trace/perfetto.hpp>
#include <pipewright/trace/recorder.hpp>
#include <pipewright/trace/svg.hpp>
#include <pipewright/trace/write_file.hpp>

namespace pw = pipewright;
namespace fs = std::filesystem;

namespace {

template<class Policy> pw::trace traced(pw::shape s) {
  auto const plan = pw::make_unrolled_plan<Policy>(s);
  return pw::trace_of(plan.view(), pw::simulate(plan.view(), pw::costs<double>{}));
}

std::size_t count(std::string_view text, std::string_view part) {
  std::size_t n = 0;
  for (auto at = text.find(part); at != text.npos; at = text.find(part, at + part.size())) ++n;
  return n;
}

/// Whether a text is one well-formed XML element: tags balance, attributes are quoted and not doubled, every & is one of
/// the five entities, no < stands in a value.
bool is_well_formed(std::string_view x) {
  std::vector<std::string> open;
  auto entities_right = [](std::string_view t) {
    for (auto at = t.find('&'); at != t.npos; at = t.find('&', at + 1)) {
      bool known = false;
      for (std::string_view const e : {"&amp;", "&lt;", "&gt;", "&quot;", "&apos;"})
        known = known || t.substr(at).starts_with(e);
      if (!known) return false;
    }
    return true;
  };
  bool closed = false;
  for (std::size_t at = 0; at < x.size();) {
    if (x[at] != '<') {
      auto const end = std::min(x.find('<', at), x.size());
      auto const content = x.substr(at, end - at);
      if (!entities_right(content)) return false;
      if (open.empty() && content.find_first_not_of(" \n") != content.npos) return false;
      at = end;
      continue;
    }
    if (closed) return false;
    auto const end = x.find('>', at);
    if (end == x.npos) return false;
    std::string_view tag = x.substr(at + 1, end - at - 1);
    at = end + 1;
    if (tag.starts_with("/")) {
      if (open.empty() || open.back() != tag.substr(1)) return false;
      open.pop_back();
      closed = open.empty();
      continue;
    }
    bool const empty = tag.ends_with("/");
    if (empty) tag.remove_suffix(1);
    auto const name = tag.substr(0, tag.find(' '));
    tag.remove_prefix(name.size());
    std::set<std::string> seen;
    while (!tag.empty()) {
      if (tag[0] != ' ') return false;
      tag.remove_prefix(1);
      auto const equals = tag.find("=\"");
      if (equals == tag.npos || !seen.insert(std::string(tag.substr(0, equals))).second) return false;
      auto const quote = tag.find('"', equals + 2);
      if (quote == tag.npos) return false;
      auto const value = tag.substr(equals + 2, quote - equals - 2);
      if (!entities_right(value) || value.find('<') != value.npos) return false;
      tag.remove_prefix(quote + 1);
    }
    if (!empty) open.emplace_back(name);
  }
  return closed && open.empty();
}

/// A directory of its own that goes away.
struct scratch {
  fs::path path = fs::temp_directory_path() /
                  ("pipewright-trace-" + std::to_string(std::chrono::steady_clock::now().time_since_epoch().count()));
  scratch() { fs::create_directories(path); }
  ~scratch() { fs::remove_all(path); }
  std::vector<std::string> names() const {
    std::vector<std::string> result;
    for (auto const& e : fs::directory_iterator(path)) result.push_back(e.path().filename().string());
    std::sort(result.begin(), result.end());
    return result;
  }
};

std::string content(fs::path const& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

TEST_CASE("the checker of XML sees what is wrong") {
  CHECK(is_well_formed("<a b=\"1\"><c/>x &lt; y</a>\n"));
  for (std::string_view const bad :
       {"", "<a>", "<a></b>", "<a b=1/>", "<a b=\"1\" b=\"2\"/>", "<a>&</a>", "<a b=\"<\"/>", "<a/><b/>", "x<a></a>"})
    CHECK_FALSE(is_well_formed(bad));
}

TEST_CASE("a picture is well-formed XML and shows every action") {
  auto check = [](pw::trace const& t) {
    auto const svg = pw::svg_of(t);
    CHECK(is_well_formed(svg));
    std::size_t compute = 0, updates = 0;
    for (auto const& a : t.actions) {
      compute += pw::is_compute(a.ran.what.what);
      updates += a.ran.what.what == pw::kind::update;
    }
    CHECK(count(svg, "<g><title>") == compute + updates);
    CHECK(count(svg, "url(#idle)") == static_cast<std::size_t>(t.ranks) + 1);  // the lanes and the legend
    CHECK(count(svg, ">rank ") == static_cast<std::size_t>(t.ranks));
    CHECK(svg.find("NaN") == svg.npos);
    CHECK(svg.find("nan") == svg.npos);
    return svg;
  };
  auto const flush = check(traced<pw::flush>({4, 8}));
  CHECK(flush.find("<title>forward of micro-batch 3, stage 1, rank 1: 5 to 6</title>") == flush.npos);
  CHECK(flush.find("<title>forward of micro-batch 2, stage 1, rank 1: 3 to 4</title>") != flush.npos);
  CHECK(flush.find("33 units of time") != flush.npos);
  CHECK(flush.find("idle 27.3 %") != flush.npos);
  CHECK(count(flush, "class=\"v\"") == 0);  // one version: not a word of it

  auto const stream = check(traced<pw::one_f_one_b>({3, 5}));
  CHECK(count(stream, "class=\"v\"") == 2 * 3 * 5);
  CHECK(stream.find("micro-batch 4, stage 0, rank 0, weights v2") != stream.npos);
  CHECK(stream.find("weight version") != stream.npos);

  auto const chunks = check(traced<pw::interleaved<2>>({2, 4}));
  CHECK(chunks.find("later chunk") != chunks.npos);
  check(traced<pw::gpipe>({1, 1}));
  check(traced<pw::forward_only>({3, 4, 3}));
  pw::trace const none{.title = "nothing", .ranks = 1};
  check(none);
}

TEST_CASE("foreign text is harmless in a picture and a trace file") {
  auto t = traced<pw::gpipe>({2, 2});
  t.title = "a <b> & \"c\" 'd' \\ \x01 \xFF \xC3\xA9 \xED\xA0\x80 \n";
  CHECK(is_well_formed(pw::svg_of(t)));
  CHECK(pw::svg_of(t).find("a &lt;b&gt; &amp; &quot;c&quot; &apos;d&apos; \\ ? ? \xC3\xA9 ???") != std::string::npos);
  auto const read = nlohmann::json::parse(pw::perfetto_of(t));
  CHECK(read["otherData"]["title"] ==
        "a <b> & \"c\" 'd' \\ \x01 \xEF\xBF\xBD \xC3\xA9 \xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD \n");
}

TEST_CASE("a picture of too many actions is refused with a sentence") {
  pw::trace t{.title = "large", .ranks = 1};
  t.actions.assign(200'001, {0, {pw::forward(0, 0), 0}, 0, 1});
  CHECK_THROWS_WITH_AS(pw::svg_of(t), doctest::Contains("at most 200000 actions and this trace has 200001"), pw::error);
}

TEST_CASE("a trace file has every action on its rank's track, with arrows between ranks") {
  auto const t = traced<pw::one_f_one_b>({3, 4});
  auto const read = nlohmann::json::parse(pw::perfetto_of(t));
  std::map<std::string, int> phases;
  std::map<int, double> free;  // by rank
  std::set<std::string> tracks;
  for (auto const& e : read["traceEvents"]) {
    ++phases[e["ph"]];
    if (e["name"] == "thread_name") tracks.insert(e["args"]["name"]);
    if (e["ph"] != "X") continue;
    CHECK(e["ts"].get<double>() >= free[e["tid"]]);  // one after another
    free[e["tid"]] = e["ts"].get<double>() + e["dur"].get<double>();
    CHECK(e["dur"] == (e["cat"] == "forward" ? 1000 : 2000));
    CHECK(e["args"].contains("stage"));
    CHECK(e["args"].contains("micro_batch"));
    CHECK(e["args"].contains("version"));
  }
  CHECK(phases["X"] == 2 * 3 * 4);
  CHECK(phases["i"] == 3 * 4);      // an update after every backward
  CHECK(phases["s"] == 2 * 2 * 4);  // two edges, activation and gradient, four micro-batches
  CHECK(phases["f"] == phases["s"]);
  CHECK(phases["C"] == 2 * 3 * 4);
  CHECK(tracks == std::set<std::string>{"rank 0", "rank 1", "rank 2"});
  CHECK(read["traceEvents"].size() == static_cast<std::size_t>(1 + 2 * 3 + 24 + 12 + 16 + 16 + 24));
}

TEST_CASE("numbers are written as JSON and XML have them") {
  CHECK(pw::trace_text::number(0) == "0");
  CHECK(pw::trace_text::number(-0.0001) == "0");
  CHECK(pw::trace_text::number(1.5) == "1.5");
  CHECK(pw::trace_text::number(100) == "100");
  CHECK(pw::trace_text::number(1e15) == "1000000000000000");
  CHECK(pw::trace_text::number(1e300).size() == 301);
  CHECK(pw::trace_text::number(2.0 / 3) == "0.667");
  CHECK(pw::trace_text::percent(3.0 / 11) == "27.3 %");
}

TEST_CASE("a file is written whole or not at all") {
  scratch const here;
  auto const file = here.path / "x.txt";
  pw::write_file(file, "one");
  CHECK(content(file) == "one");
  pw::write_file(file, "two");
  CHECK(content(file) == "two");
  CHECK(here.names() == std::vector<std::string>{"x.txt"});

  auto const half = [](auto&& append) {
    append(std::string_view("half"));
    throw pw::error("no more");
  };
  CHECK_THROWS_WITH_AS(pw::write_file(file, half), "no more", pw::error);
  CHECK(content(file) == "two");  // as it was
  CHECK_THROWS_AS(pw::write_file(here.path / "y.txt", half), pw::error);
  CHECK(here.names() == std::vector<std::string>{"x.txt"});

  CHECK_THROWS_WITH_AS(pw::write_file(here.path / "no" / "y.txt", "x"), doctest::Contains("No such file or directory"),
                       pw::error);
  CHECK_THROWS_WITH_AS(pw::write_file(here.path, "x"), doctest::Contains("it is a directory"), pw::error);
  CHECK_THROWS_WITH_AS(pw::write_file("", "x"), doctest::Contains("the name is empty"), pw::error);
  CHECK_THROWS_WITH_AS(pw::write_file("/dev/full", std::string(1 << 20, 'x')), doctest::Contains("No space left"),
                       pw::error);
  CHECK(fs::is_character_file("/dev/full"));

  fs::create_symlink("x.txt", here.path / "link");
  pw::write_file(here.path / "link", "three");
  CHECK(fs::is_symlink(here.path / "link"));
  CHECK(content(file) == "three");
  CHECK(here.names() == std::vector<std::string>{"link", "x.txt"});
}

TEST_CASE("what ranks record becomes one trace in seconds") {
  auto const plan = pw::make_plan<pw::gpipe>({2, 2});
  auto const p = plan.view();
  std::vector<pw::recorder> recorders(2, pw::recorder(64));
  for (int r = 0; r < 2; ++r)
    for (auto const i : p.programs[r]) {
      recorders[r].before({r, i});
      if (pw::is_compute(i.what.what)) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      recorders[r].after({r, i});
    }
  auto const t = pw::measured_trace(p, recorders, "measured");
  CHECK(t.unit == pw::time_unit::seconds);
  CHECK(t.title == "measured");
  std::map<int, int> compute;
  for (auto const& a : t.actions) {
    compute[a.rank] += pw::is_compute(a.ran.what.what);
    CHECK(a.end >= a.begin);
    if (pw::is_compute(a.ran.what.what)) CHECK(a.end - a.begin >= 0.001);
  }
  CHECK(compute == std::map<int, int>{{0, 4}, {1, 4}});
  auto const totals = pw::totals_of(t);
  CHECK(totals.begin == 0);
  CHECK(totals.in_flight == std::vector<int>{2, 2});
  CHECK(is_well_formed(pw::svg_of(t)));
  CHECK(pw::svg_of(t).find("measured") != std::string::npos);
  CHECK(nlohmann::json::parse(pw::perfetto_of(t))["traceEvents"].size() > 8);
}
