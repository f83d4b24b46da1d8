// SPDX-License-Identifier: Apache-2.0
#include "threads.h"

#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

namespace tacotune {
namespace {

class Pool {
 public:
  ~Pool() { resize(1); }

  Int size() const { return static_cast<Int>(workers_.size()) + 1; }

  void resize(Int count) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    for (std::thread& worker : workers_) worker.join();
    workers_.clear();
    stopping_ = false;
    for (Int i = 1; i < count; i++) workers_.emplace_back([this, i, seen = generation_] { work(i, seen); });
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
      busy_ = static_cast<Int>(workers_.size());
      generation_++;
    }
    wake_.notify_all();
    drain(0);
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return busy_ == 0; });
  }

 private:
  void drain(Int thread) {
    for (Int i; (i = next_.fetch_add(1, std::memory_order_relaxed)) < count_;) task_(context_, i, thread);
  }

  void work(Int thread, uint64_t seen) {
    for (;;) {
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return stopping_ || generation_ != seen; });
        if (stopping_) return;
        seen = generation_;
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
  Int count_ = 0, busy_ = 0;
  void (*task_)(void*, Int, Int) = nullptr;
  void* context_ = nullptr;
  uint64_t generation_ = 0;
  bool stopping_ = false;
};

// The pool outlives every call and is never destroyed: at process exit its threads may still sleep in it, and joining
// them from a static destructor deadlocks when the host exits inside a task.
Pool& pool() {
  static Pool* const instance = [] {
    Pool* p = new Pool();
    const unsigned cores = std::thread::hardware_concurrency();
    p->resize(cores ? cores : 1);
    return p;
  }();
  return *instance;
}

struct Block {
  void* data = nullptr;
  Int bytes = 0;
};
constexpr Int MAX_THREADS = 256;
Block blocks[SCRATCH_SLOTS][MAX_THREADS + 1];
std::mutex scratch_mutex;

}  // namespace

void run_tasks(Int count, void (*task)(void*, Int, Int), void* context) { pool().run(count, task, context); }

Int thread_count() { return pool().size(); }

void set_thread_count(Int count) { pool().resize(count < 1 ? 1 : count > MAX_THREADS ? MAX_THREADS : count); }

void* scratch(ScratchSlot slot, Int thread, Int bytes) {
  Block& block = blocks[slot][thread + 1];
  if (block.bytes >= bytes) return block.data;
  std::lock_guard<std::mutex> lock(scratch_mutex);
  std::free(block.data);
  const Int rounded = (bytes + 4095) / 4096 * 4096;
  block.data = std::aligned_alloc(4096, static_cast<size_t>(rounded));
  block.bytes = block.data ? rounded : 0;
  if (!block.data) throw std::bad_alloc();
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
