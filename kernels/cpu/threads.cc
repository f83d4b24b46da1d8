// SPDX-License-Identifier: Apache-2.0
// The pool and the scratch memory themselves: see threads.h for what they promise.
#include "threads.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

namespace tacotune {
namespace {

constexpr Int MAX_THREADS = 256;

class Pool {
 public:

  Int size() const { return static_cast<Int>(workers_.size()) + 1; }

  /// Stops all workers and starts count - 1 new ones, or as many as the system grants.
  void resize(Int count) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
    stopping_ = false;
    try {
      for (Int i = 1; i < count; i++) workers_.emplace_back([this, i, seen = generation_] { work(i, seen); });
    } catch (const std::system_error&) {
      // A container may limit its processes. Results do not depend on the number of threads, so fewer will do.
    }
  }

  void run(Int count, void (*task)(void*, Int, Int), void* context) {
    if (workers_.empty() || count <= 1) {
      for (Int i = 0; i < count; i++) task(context, i, 0);
      return;
    }
    {
      std::lock_guard<std::mutex> lock(mutex_);
      count_ = count;
      task_ = task;
      context_ = context;
      next_.store(0, std::memory_order_relaxed);
      called_ = busy_ = std::min(static_cast<Int>(workers_.size()), count - 1);
      error_ = nullptr;
      generation_++;
    }
    wake_.notify_all();
    drain(0);
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return busy_ == 0; });
    if (error_) std::rethrow_exception(error_);
  }

 private:
  /// Runs tasks until none is left. What a task throws (memory for scratch may run out) ends a worker thread and with it the
  /// process, so it is kept for the caller, and the tasks not yet begun are given up.
  void drain(Int thread) {
    try {
      for (Int i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) task_(context_, i, thread);
    } catch (...) {
      next_.store(count_, std::memory_order_relaxed);
      std::lock_guard<std::mutex> lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
  }

  void work(Int thread, uint64_t seen) {
    for (;;) {
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return stopping_ || generation_ != seen; });
        if (stopping_) return;
        seen = generation_;
        if (thread > called_) continue;  // fewer tasks than threads: the caller does not wait for this one
      }
      drain(thread);
      std::lock_guard<std::mutex> lock(mutex_);
      if (--busy_ == 0) done_.notify_one();
    }
  }

  std::vector<std::thread> workers_;
  std::mutex mutex_;
  std::condition_variable wake_, done_;
  std::atomic<Int> next_{0};
  Int count_ = 0, called_ = 0, busy_ = 0;
  void (*task_)(void*, Int, Int) = nullptr;
  void* context_ = nullptr;
  std::exception_ptr error_;
  uint64_t generation_ = 0;
  bool stopping_ = false;
};

// The pool outlives every call and is never destroyed: at process exit its threads may still sleep in it, and joining
// them from a static destructor deadlocks when the host exits inside a task.
Pool& pool() {
  static Pool* const instance = [] {
    Pool* p = new Pool();
    p->resize(std::clamp<Int>(std::thread::hardware_concurrency(), 1, MAX_THREADS));
    return p;
  }();
  return *instance;
}

struct Block {
  void* data = nullptr;
  Int bytes = 0;
};
constexpr Int PAGE = 4096, LARGE_PAGE = 2 << 20, LARGE_BYTES = 4 << 20;
Block blocks[SCRATCH_SLOTS][MAX_THREADS + 1];
std::mutex scratch_mutex;

}  // namespace

void run_tasks(Int count, void (*task)(void*, Int, Int), void* context) { pool().run(count, task, context); }

Int thread_count() { return pool().size(); }

void set_thread_count(Int count) { pool().resize(std::clamp<Int>(count, 1, MAX_THREADS)); }

void* scratch(ScratchSlot slot, Int thread, Int bytes) {
  Block& block = blocks[slot][thread + 1];
  if (block.bytes >= bytes) return block.data;
  std::lock_guard<std::mutex> lock(scratch_mutex);
  std::free(block.data);
  block = Block{};
  // Large pages spare the address look-ups of packed operands: 2 % of a large product.
  const Int page = bytes >= LARGE_BYTES ? LARGE_PAGE : PAGE, rounded = (bytes + page - 1) / page * page;
  block.data = std::aligned_alloc(static_cast<size_t>(page), static_cast<size_t>(rounded));
  if (!block.data) throw std::bad_alloc();
  block.bytes = rounded;
#ifdef MADV_HUGEPAGE
  if (page == LARGE_PAGE) madvise(block.data, static_cast<size_t>(rounded), MADV_HUGEPAGE);
#endif
  return block.data;
}

Int scratch_bytes() {
  std::lock_guard<std::mutex> lock(scratch_mutex);
  Int total = 0;
  for (const auto& slot : blocks)
    for (const Block& block : slot) total += block.bytes;
  return total;
}

void release_scratch() {
  std::lock_guard<std::mutex> lock(scratch_mutex);
  for (auto& slot : blocks)
    for (Block& block : slot) {
      std::free(block.data);
      block = Block{};
    }
}

}  // namespace tacotune
