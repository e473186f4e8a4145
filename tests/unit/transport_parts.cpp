// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include <doctest/doctest.h>

#include <pipewright/stage/stage.hpp>
#include <pipewright/transport/message.hpp>
#include <pipewright/transport/parts.hpp>

namespace pw = pipewright;
using pw::element;

namespace shop {

struct point {
  float x, y;
};  // its own bytes
struct sparse {
  std::vector<std::int32_t> places;
  std::vector<float> values;
  void for_each_part(auto&& visit) { visit(places), visit(values); }
};
struct view_of_device {  // memory that only a wire reads
  void* address;
  std::size_t bytes;
};
void for_each_part(view_of_device& v, auto&& visit) { visit(pw::part{v.address, v.bytes, element::bfloat16}); }
struct borrowed {
  float* values;
  int count;
  void for_each_part(auto&& visit) { visit(std::span(values, static_cast<std::size_t>(count))); }
};
struct half {
  std::uint16_t bits;
};
struct opaque {
  std::vector<float> values;
};
enum class colour : std::uint8_t { red };

}  // namespace shop

template<> inline constexpr element pw::element_of<shop::half> = element::float16;

struct listed {
  void const* data;
  std::size_t bytes;
  element type;
  bool operator==(listed const&) const = default;
};
template<class T> std::vector<listed> parts_of(T& value) {
  std::vector<listed> all;
  pw::for_each_part(value, [&](pw::part p) { all.push_back({p.data, p.bytes, p.type}); });
  std::size_t sum = 0;
  for (auto const& each : all) sum += each.bytes;
  CHECK(pw::bytes_of(value) == sum);
  return all;
}

TEST_CASE("arithmetic types are one part of their own kind") {
  auto const is = [](auto value, element type) { CHECK(parts_of(value).at(0) == listed{&value, sizeof value, type}); };
  is(1.f, element::float32);
  is(1., element::float64);
  is(std::int8_t(1), element::int8);
  is(std::int16_t(1), element::int16);
  is(std::int32_t(1), element::int32);
  is(std::int64_t(1), element::int64);
  is(std::uint8_t(1), element::uint8);
  is(std::uint16_t(1), element::uint16);
  is(std::uint32_t(1), element::uint32);
  is(std::uint64_t(1), element::uint64);
  is(1LL, element::int64);
  is(true, element::byte);
  is(1.L, element::byte);
  is(shop::colour::red, element::byte);
  is(shop::point{1, 2}, element::byte);
  is(shop::half{1}, element::float16);
}

TEST_CASE("runs are one part where their elements are flat") {
  std::vector<float> v(10);
  CHECK(parts_of(v) == std::vector<listed>{{v.data(), 40, element::float32}});
  std::array<double, 3> a{};
  CHECK(parts_of(a) == std::vector<listed>{{a.data(), 24, element::float64}});
  std::string s = "hello";
  CHECK(parts_of(s) == std::vector<listed>{{s.data(), 5, element::int8}});
  std::vector<std::array<float, 4>> rows(5);
  CHECK(parts_of(rows) == std::vector<listed>{{rows.data(), 80, element::float32}});
  std::vector<shop::half> halves(3);
  CHECK(parts_of(halves) == std::vector<listed>{{halves.data(), 6, element::float16}});
  std::vector<std::vector<int>> nested{{1}, {}, {2, 3}};
  CHECK(parts_of(nested) ==
        std::vector<listed>{{nested[0].data(), 4, element::int32}, {nested[2].data(), 8, element::int32}});
  std::vector<float> none;
  CHECK(parts_of(none).empty());
}

TEST_CASE("a boundary may be put together from others") {
  std::tuple<int, std::vector<float>, std::optional<std::string>> t{1, {1, 2}, std::nullopt};
  CHECK(parts_of(t) ==
        std::vector<listed>{{&std::get<0>(t), 4, element::int32}, {std::get<1>(t).data(), 8, element::float32}});
  std::get<2>(t) = "ab";
  CHECK(parts_of(t).at(2) == listed{std::get<2>(t)->data(), 2, element::int8});
  std::pair<short, double> p{1, 2};
  CHECK(parts_of(p) == std::vector<listed>{{&p.first, 2, element::int16}, {&p.second, 8, element::float64}});
  std::optional<float> maybe;
  CHECK(parts_of(maybe).empty());
  maybe = 1.f;
  CHECK(parts_of(maybe) == std::vector<listed>{{&*maybe, 4, element::float32}});
  pw::nothing nothing;
  CHECK(parts_of(nothing).empty());
}

TEST_CASE("types of one's own") {
  shop::sparse s{{1, 2, 3}, {1.5f}};
  CHECK(parts_of(s) ==
        std::vector<listed>{{s.places.data(), 12, element::int32}, {s.values.data(), 4, element::float32}});
  std::vector<shop::sparse> many{s, {}};
  CHECK(parts_of(many).size() == 2);
  shop::view_of_device d{&s, 64};
  CHECK(parts_of(d) == std::vector<listed>{{&s, 64, element::bfloat16}});
  float numbers[3]{};
  shop::borrowed b{numbers, 3};
  CHECK(parts_of(b) == std::vector<listed>{{numbers, 12, element::float32}});
}

TEST_CASE("parts are written through") {
  std::pair<int, std::vector<int>> value{0, {0, 0}};
  int next = 1;
  pw::for_each_part(value, [&](pw::part p) {
    for (std::size_t i = 0; i < p.bytes / sizeof(int); ++i) static_cast<int*>(p.data)[i] = next++;
  });
  CHECK(value == std::pair(1, std::vector{2, 3}));
}

static_assert(pw::bytes_of(pw::nothing{}) == 0 && pw::bytes_of(1.5) == 8 && pw::bytes_of(std::array<float, 3>{}) == 12);
static_assert(pw::has_parts<std::vector<shop::sparse>> && pw::has_parts<std::tuple<>>);
static_assert(!pw::has_parts<int*>);            // an address means nothing elsewhere
static_assert(!pw::has_parts<std::span<int>>);  // a view of what somebody else owns
static_assert(!pw::has_parts<std::string_view>);
static_assert(!pw::has_parts<std::unique_ptr<int>>);
static_assert(!pw::has_parts<std::vector<bool>>);  // no addresses of elements
static_assert(!pw::has_parts<shop::opaque>);       // says nothing of its members
static_assert(!pw::has_parts<std::pair<int, shop::opaque>>);
static_assert(!pw::has_parts<std::optional<std::vector<int*>>>);

TEST_CASE("messages know their type and swap") {
  std::vector<int> a{1, 2}, b{3};
  auto const message = pw::message_of(a), other = pw::message_of(b);
  CHECK(message.type == other.type);
  int number = 0;
  CHECK(message.type != pw::message_of(number).type);
  CHECK(message.type->name.find("vector<int") != std::string_view::npos);
  CHECK(message.type->bytes(&a) == 8);
  auto const* const data = a.data();
  message.type->exchange(&b, &a);
  CHECK(a == std::vector{3});
  CHECK(b == std::vector{1, 2});
  CHECK(b.data() == data);
}
