// SPDX-License-Identifier: Apache-2.0
// In which order the runnable threads of a block run. A kernel must give the same result in every one; the greedy orders,
// where one warp runs to the barrier before the next begins, show the most missing barriers.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <vector>

namespace tacotune::cuda::emulator {

enum class Order : uint8_t {
  FIFO,
  REVERSED,
  RANDOM,
  GREEDY_UP,      // always the runnable thread of the lowest index
  GREEDY_DOWN,    // of the highest
  GREEDY_RANDOM,  // by a ranking of warps and lanes that is drawn anew at every barrier
};

/// SplitMix64 (Steele et al. 2014): small, and good enough to shuffle with.
class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}
  uint32_t below(uint32_t n) {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return static_cast<uint32_t>((z ^ z >> 31) % n);
  }
  template <class Iterator>
  void shuffle(Iterator begin, Iterator end) {
    for (auto n = end - begin; n > 1; n--) std::swap(begin[n - 1], begin[below(static_cast<uint32_t>(n))]);
  }

 private:
  uint64_t state_;
};

class Schedule {
 public:
  /// Forgets everything; threads are numbered 0 … threads-1.
  void reset(Order order, uint32_t threads, Random& random) {
    order_ = order;
    threads_ = threads;
    random_ = &random;
    head_ = count_ = 0;
    queue_.resize(threads);
    ready_.fill(0);
    rank();
  }

  /// A barrier has opened: greedy random ranks anew. Nothing may be queued.
  void barrier() {
    if (order_ == Order::GREEDY_RANDOM) rank();
  }

  bool empty() const { return count_ == 0; }
  bool reversed() const { return order_ == Order::REVERSED; }

  /// Whether the thread that completes a warp's collective goes on at once instead of queueing with the others.
  bool last_goes_on() const { return order_ == Order::FIFO || order_ == Order::REVERSED || order_ == Order::GREEDY_UP; }

  void push(uint32_t thread) {
    if (order_ >= Order::GREEDY_UP) {
      const uint32_t rank = rank_of_[thread];
      ready_[rank / 64] |= uint64_t(1) << rank % 64;
    } else {
      uint32_t at = head_ + count_;
      queue_[at >= threads_ ? at - threads_ : at] = static_cast<uint16_t>(thread);
    }
    count_++;
  }

  uint32_t pop() {
    count_--;
    if (order_ >= Order::GREEDY_UP) {
      size_t word = 0;
      while (!ready_[word]) word++;
      const uint32_t rank = static_cast<uint32_t>(64 * word) + static_cast<uint32_t>(__builtin_ctzll(ready_[word]));
      ready_[word] &= ready_[word] - 1;
      return by_rank_[rank];
    }
    if (order_ == Order::RANDOM) {
      uint32_t at = head_ + random_->below(count_ + 1);
      std::swap(queue_[at >= threads_ ? at - threads_ : at], queue_[head_]);
    }
    const uint32_t thread = queue_[head_];
    if (++head_ == threads_) head_ = 0;
    return thread;
  }

 private:
  void rank() {
    if (order_ < Order::GREEDY_UP) return;
    by_rank_.resize(threads_);
    rank_of_.resize(threads_);
    const uint32_t warps = (threads_ + 31) / 32;
    std::array<uint16_t, 32> order;
    for (uint32_t w = 0; w < warps; w++) order[w] = static_cast<uint16_t>(order_ == Order::GREEDY_DOWN ? warps - 1 - w : w);
    if (order_ == Order::GREEDY_RANDOM) random_->shuffle(order.begin(), order.begin() + warps);
    uint32_t rank = 0;
    for (uint32_t w = 0; w < warps; w++) {
      const uint32_t first = order[w] * 32u, lanes = std::min(32u, threads_ - first), start = rank;
      for (uint32_t lane = 0; lane < lanes; lane++)
        by_rank_[rank++] = static_cast<uint16_t>(first + (order_ == Order::GREEDY_DOWN ? lanes - 1 - lane : lane));
      if (order_ == Order::GREEDY_RANDOM) random_->shuffle(by_rank_.begin() + start, by_rank_.begin() + rank);
    }
    for (uint32_t r = 0; r < threads_; r++) rank_of_[by_rank_[r]] = static_cast<uint16_t>(r);
  }

  Order order_ = Order::FIFO;
  uint32_t threads_ = 0, head_ = 0, count_ = 0;
  Random* random_ = nullptr;
  std::vector<uint16_t> queue_, by_rank_, rank_of_;
  std::array<uint64_t, 16> ready_{};
};

}  // namespace tacotune::cuda::emulator
