// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <utility>

namespace pipewright::inline v0 {

/// A run of values. What a std::span is, but cheap to compile; it converts to one.
template<class T> struct row {
  T const* items;
  std::size_t count;

  constexpr T const* begin() const { return items; }
  constexpr T const* end() const { return items + count; }
  constexpr T const* data() const { return items; }
  constexpr std::size_t size() const { return count; }
  constexpr bool empty() const { return count == 0; }
  constexpr T const& operator[](std::size_t i) const { return items[i]; }
  constexpr T const& front() const { return items[0]; }
  constexpr T const& back() const { return items[count - 1]; }
};

/// A row for each rank, rows of different length, all in one block. Non-owning.
template<class T> struct rows_view {
  T const* items = nullptr;
  std::size_t const* first = nullptr;  ///< count + 1 offsets
  int count = 0;

  constexpr T const* begin_of(int row) const { return items + first[row]; }
  constexpr int length(int row) const { return static_cast<int>(first[row + 1] - first[row]); }
  constexpr row<T> operator[](int row) const { return {begin_of(row), static_cast<std::size_t>(length(row))}; }
  constexpr std::size_t total() const { return count == 0 ? 0 : first[count]; }
};

/// A block of `n` values for the length of a computation, in the compiler and at run time alike. Plain pointers on
/// purpose: compilers count every call of a constant evaluation, and a vector's operator[] is one.
template<class T> class block {
 public:
  constexpr block() = default;
  constexpr explicit block(std::size_t n) : items_{n == 0 ? nullptr : new T[n]{}}, size_{n} {}
  constexpr block(block&& other) noexcept
      : items_{std::exchange(other.items_, nullptr)}, size_{std::exchange(other.size_, 0)} {}
  constexpr block& operator=(block&& other) noexcept {
    std::swap(items_, other.items_);
    std::swap(size_, other.size_);
    return *this;
  }
  constexpr ~block() { delete[] items_; }

  constexpr T* data() { return items_; }
  constexpr T const* data() const { return items_; }
  constexpr std::size_t size() const { return size_; }
  constexpr T& operator[](std::size_t i) { return items_[i]; }
  constexpr T const& operator[](std::size_t i) const { return items_[i]; }

 private:
  T* items_ = nullptr;
  std::size_t size_ = 0;
};

/// Rows that own their block.
template<class T> struct rows {
  block<T> items;
  block<std::size_t> first;

  constexpr rows() = default;
  constexpr rows(int count, std::size_t total) : items(total), first(static_cast<std::size_t>(count) + 1) {}

  constexpr int count() const { return static_cast<int>(first.size()) - 1; }
  constexpr rows_view<T> view() const { return {items.data(), first.data(), count()}; }
};

/// Rows whose number and greatest total size are part of the type: what a constant plan is kept in.
template<class T, int Count, std::size_t Most> struct fixed_rows {
  std::size_t first[static_cast<std::size_t>(Count) + 1];
  T items[Most == 0 ? 1 : Most];

  constexpr void assign(rows_view<T> from) {
    for (int r = 0; r <= Count; ++r) first[r] = from.first[r];
    for (std::size_t i = 0, n = from.total(); i < n; ++i) items[i] = from.items[i];
  }
  constexpr rows_view<T> view() const { return {items, first, Count}; }
};

}  // namespace pipewright::inline v0
