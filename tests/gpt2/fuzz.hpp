// SPDX-License-Identifier: Apache-2.0
#pragma once
// Gives a reader thousands of damaged files. It must end each with a sentence or with what an independent reader finds,
// and allocate at most 64 times the file's size + 1 MiB. For one source of a program: it counts all allocations.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <new>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <doctest/doctest.h>
#include <malloc.h>

#include <pipewright/error.hpp>

namespace fuzz {

inline std::size_t live = 0, peak = 0;

/// Some of the mutations in the default run, all in --full.
#ifdef PIPEWRIGHT_QUICK_TESTS
inline constexpr int mutations = 1000;
#else
inline constexpr int mutations = 10'000;
#endif

}  // namespace fuzz

void* operator new(std::size_t bytes) {
  if (bytes > std::size_t{1} << 40) {  // no machine has it: as good as what a bad_alloc would hide
    fuzz::peak = std::size_t{1} << 40;
    throw std::bad_alloc();
  }
  auto* const p = std::malloc(bytes == 0 ? 1 : bytes);
  if (p == nullptr) throw std::bad_alloc();
  fuzz::live += malloc_usable_size(p);
  fuzz::peak = std::max(fuzz::peak, fuzz::live);
  return p;
}
void operator delete(void* p) noexcept {
  if (p != nullptr) fuzz::live -= malloc_usable_size(p);
  std::free(p);
}
void operator delete(void* p, std::size_t) noexcept { ::operator delete(p); }

namespace fuzz {

/// What texts are damaged with, besides bytes: what a reader of numbers, names and nestings may stumble over.
inline auto pieces() -> std::vector<std::string> const& {
  static auto const all = std::vector<std::string>{"{",
                                                   "}",
                                                   "[",
                                                   "]",
                                                   ",",
                                                   ":",
                                                   "\"",
                                                   "\\",
                                                   "0",
                                                   "1",
                                                   "9",
                                                   "-",
                                                   "e",
                                                   "E9",
                                                   ".",
                                                   "null",
                                                   "true",
                                                   "false",
                                                   "\\u",
                                                   "\\ud800",
                                                   "\\u0000",
                                                   "1e999",
                                                   "4294967296",
                                                   "-1",
                                                   "65536",
                                                   "{}",
                                                   "[]",
                                                   "\"\"",
                                                   "01",
                                                   "18446744073709551615",
                                                   "18446744073709551616",
                                                   "9223372036854775808",
                                                   "2147483648",
                                                   std::string(100, '['),
                                                   std::string(1, '\0'),
                                                   "\xff",
                                                   "\xc0\x80",
                                                   "\xed\xa0\x80",
                                                   "NaN",
                                                   "1e-05",
                                                   "\"a\":",
                                                   ",\"a\":1",
                                                   "\n"};
  return all;
}

/// A file's bytes, changed in one to four places of [first, last).
inline auto changed(std::string const& good, std::size_t first, std::size_t last, std::mt19937& engine) -> std::string {
  auto bad = good;
  auto const place = [&] { return first + engine() % std::max<std::size_t>(1, std::min(last, bad.size()) - first); };
  for (auto changes = engine() % 4 + 1; changes > 0 && bad.size() > first; --changes) {
    auto const at = place();
    auto const span = engine() % 24;
    switch (engine() % 8) {
      case 0: bad[at] = static_cast<char>(engine()); break;
      case 1: bad[at] = static_cast<char>(bad[at] ^ (1 << engine() % 8)); break;
      case 2: bad.erase(at, span); break;
      case 3: bad.insert(at, bad.substr(place(), span)); break;
      case 4: bad.insert(at, pieces()[engine() % pieces().size()]); break;
      case 5: {
        auto const& piece = pieces()[engine() % pieces().size()];
        bad.replace(at, piece.size(), piece);
        break;
      }
      case 6: {  // a number becomes another
        auto const digit = std::min(bad.find_first_of("0123456789", at), bad.size());
        auto const end = std::min(bad.find_first_not_of("0123456789", digit), bad.size());
        bad.replace(digit, end - digit, std::to_string(engine() % 3 == 0 ? engine() : engine() % 20));
        break;
      }
      case 7:
        if (engine() % 8 == 0) bad.resize(at);
        break;
    }
  }
  return bad;
}

inline auto bytes_of(std::filesystem::path const& path) -> std::string {
  auto in = std::ifstream(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

struct folder {
  std::filesystem::path path =
      std::filesystem::temp_directory_path() / ("pipewright-fuzz-" + std::to_string(std::random_device{}()));
  folder() { std::filesystem::create_directories(path); }
  ~folder() { std::filesystem::remove_all(path); }
};

struct outcome {
  int read = 0, refused = 0;
};

/// Writes `mutations` changed files under `path`, each from the one that make(engine) gives. read(path) reads one and returns
/// what it found; right(bytes, found) says whether that is what stands there. `beside`: bytes of other files that it opens.
template<class Make, class Read, class Right>
auto run(std::filesystem::path const& path, std::size_t beside, Make make, Read read, Right right) -> outcome {
  outcome all;
  for (int i = 0; i < mutations; ++i) {
    auto engine = std::mt19937(static_cast<std::uint32_t>(i));
    auto const bad = make(engine);
    std::filesystem::remove(path);  // cutting a file short makes some file systems write it to the disk at once
    std::ofstream(path, std::ios::binary) << bad;
    CAPTURE(i);
    auto const before = live;
    peak = live;
    auto used = std::size_t{0};
    try {
      auto const found = read(path);
      used = peak - before;
      REQUIRE(right(bad, found));
      ++all.read;
    } catch (pipewright::error const& e) {
      used = peak - before;
      auto const sentence = std::string_view(e.what());
      CAPTURE(sentence);
      REQUIRE(sentence.find(path.parent_path().string()) !=
              std::string_view::npos);  // it names the file, or one beside
      REQUIRE(sentence.size() < path.string().size() + 400);
      ++all.refused;
    }
    auto const bytes = bad.size() + beside;
    REQUIRE(used <= 64 * bytes + (1 << 20));
  }
  MESSAGE(all.read, " read, ", all.refused, " refused");
  return all;
}

}  // namespace fuzz
