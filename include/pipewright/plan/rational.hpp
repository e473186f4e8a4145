// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>
#include <cstdint>
#include <numeric>

#include <pipewright/error.hpp>

namespace pipewright::inline v0 {

/// An exact fraction in lowest terms, for times that must not round. Throws pipewright::error on overflow (which in a
/// constant expression does not compile).
class rational {
 public:
  constexpr rational(std::int64_t value = 0) : numerator_{value} {}
  constexpr rational(std::int64_t numerator, std::int64_t denominator) : rational(reduce(numerator, denominator)) {}

  constexpr std::int64_t numerator() const { return numerator_; }
  constexpr std::int64_t denominator() const { return denominator_; }
  constexpr explicit operator double() const {
    return static_cast<double>(numerator_) / static_cast<double>(denominator_);
  }

  friend constexpr rational operator+(rational a, rational b) {
    if (a.denominator_ == 1 && b.denominator_ == 1) return add(a.numerator_, b.numerator_);
    return reduce(add(multiply(a.numerator_, b.denominator_), multiply(b.numerator_, a.denominator_)),
                  multiply(a.denominator_, b.denominator_));
  }
  friend constexpr rational operator-(rational a) { return {-a.numerator_, a.denominator_, lowest{}}; }
  friend constexpr rational operator-(rational a, rational b) { return a + -b; }
  friend constexpr rational operator*(rational a, rational b) {
    return reduce(multiply(a.numerator_, b.numerator_), multiply(a.denominator_, b.denominator_));
  }
  friend constexpr rational operator/(rational a, rational b) {
    return reduce(multiply(a.numerator_, b.denominator_), multiply(a.denominator_, b.numerator_));
  }
  constexpr rational& operator+=(rational b) { return *this = *this + b; }
  constexpr rational& operator-=(rational b) { return *this = *this - b; }
  friend constexpr bool operator==(rational, rational) = default;
  friend constexpr std::strong_ordering operator<=>(rational a, rational b) {
    if (a.denominator_ == b.denominator_) return a.numerator_ <=> b.numerator_;
    return multiply(a.numerator_, b.denominator_) <=> multiply(b.numerator_, a.denominator_);
  }

 private:
  struct lowest {};
  constexpr rational(std::int64_t n, std::int64_t d, lowest) : numerator_{n}, denominator_{d} {}

  static constexpr std::int64_t add(std::int64_t a, std::int64_t b) {
    std::int64_t result = 0;
    if (__builtin_add_overflow(a, b, &result))
      throw error("pipewright: an exact time overflowed; simulate with double");
    return result;
  }
  static constexpr std::int64_t multiply(std::int64_t a, std::int64_t b) {
    std::int64_t result = 0;
    if (__builtin_mul_overflow(a, b, &result))
      throw error("pipewright: an exact time overflowed; simulate with double");
    return result;
  }
  static constexpr rational reduce(std::int64_t n, std::int64_t d) {
    if (d == 0) throw error("pipewright: a fraction has denominator 0");
    std::int64_t const g = std::gcd(n, d) * (d < 0 ? -1 : 1);
    return {n / g, d / g, lowest{}};
  }

  std::int64_t numerator_ = 0, denominator_ = 1;
};

}  // namespace pipewright::inline v0
