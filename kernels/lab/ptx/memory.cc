// SPDX-License-Identifier: Apache-2.0
// Loads, stores, atomics, ldmatrix and cp.async of a warp: every address is checked, and every request is counted as a GPU's
// memory would serve it: global memory by sectors of 32 bytes, shared memory by 32 banks of 4 bytes.
#include <algorithm>

#include "kernels/lab/collectives.h"
#include "kernels/lab/ptx/block.h"

namespace tacotune::cuda::emulator::ptx {

namespace {

uint64_t base_of(Warp& warp, const Instruction& i, uint32_t lane) {
  const Register& base = warp.reg(i.operands[4]);
  return (i.wide_base ? base.q[lane] : base.w[lane]) + static_cast<uint64_t>(i.offset);
}

template <bool load>
void count(Warp& warp, const Instruction& i, uint32_t mask, const uint64_t* addresses, uint32_t bytes) {
  if (mask == 0 || i.space == Space::LOCAL || i.space == Space::CONSTANT) return;
  if (i.space == Space::SHARED) {
    uint32_t offsets[32];
    for_lanes(mask, [&](uint32_t lane) { offsets[lane] = static_cast<uint32_t>(addresses[lane]); });
    warp.block->count_shared(offsets, mask, bytes);
  } else {
    Block::count_global(load ? warp.block->counters.loads : warp.block->counters.stores, addresses, mask, bytes);
  }
}

uint64_t read(const char* from, uint32_t bytes, bool extend_sign) {
  uint64_t value = 0;
  switch (bytes) {  // sizes that the compiler knows are single instructions
    case 8: memcpy(&value, from, 8); break;
    case 4: memcpy(&value, from, 4); break;
    case 2: memcpy(&value, from, 2); break;
    default: memcpy(&value, from, 1);
  }
  if (extend_sign && bytes < 8 && value >> (8 * bytes - 1) & 1) value |= ~uint64_t(0) << 8 * bytes;
  return value;
}

/// A register may be wider than what is loaded into it.
void put(Register& r, uint32_t lane, bool wide, uint64_t value) {
  if (wide) r.q[lane] = value;
  else r.w[lane] = static_cast<uint32_t>(value);
}

void mark_written(Block& block, Space space, const char* at, uint32_t bytes) {
  if (space == Space::SHARED) memset(block.shared_written.data() + (at - block.shared.data()), 1, bytes);
}

}  // namespace

// The shared memory that a generic address may reach is found by `reach`; such accesses are counted as global, which is
// only right for global ones: nvcc knows the space of all that our kernels touch.
void run_load(Warp& warp, const Instruction& i, uint32_t mask) {
  Block& block = *warp.block;
  const uint32_t bytes = i.bytes * i.vector;
  uint64_t addresses[32];
  for_lanes(mask, [&](uint32_t lane) { addresses[lane] = base_of(warp, i, lane); });
  for_lanes(mask, [&](uint32_t lane) {
    const char* const from = block.reach(warp, i, lane, addresses[lane], bytes, i.space);
    if (i.space == Space::SHARED && memchr(block.shared_written.data() + (from - block.shared.data()), 0, bytes))
      block.stop(Failure::OTHER, warp, lane, i.place, "uninitialised: reads shared memory that nobody has written");
    for (uint32_t k = 0; k < i.vector; k++)
      if (i.operands[k] >= 0) put(warp.reg(i.operands[k]), lane, i.wide_value, read(from + k * i.bytes, i.bytes, i.flag));
  });
  count<true>(warp, i, mask, addresses, bytes);
}

void run_store(Warp& warp, const Instruction& i, uint32_t mask) {
  Block& block = *warp.block;
  const uint32_t bytes = i.bytes * i.vector;
  uint64_t addresses[32];
  for_lanes(mask, [&](uint32_t lane) { addresses[lane] = base_of(warp, i, lane); });
  for_lanes(mask, [&](uint32_t lane) {
    char* const to = block.reach(warp, i, lane, addresses[lane], bytes, i.space);
    for (uint32_t k = 0; k < i.vector; k++) {
      const Register& from = warp.reg(i.operands[k]);
      const uint64_t value = i.wide_value ? from.q[lane] : from.w[lane];
      memcpy(to + k * i.bytes, &value, i.bytes);
    }
    mark_written(block, i.space, to, bytes);
  });
  count<false>(warp, i, mask, addresses, bytes);
}

void run_load_parameter(Warp& warp, const Instruction& i, uint32_t mask) {
  const Block& block = *warp.block;
  for_lanes(mask, [&](uint32_t lane) {
    const uint64_t at = base_of(warp, i, lane);
    if (at + i.bytes * i.vector > block.parameters.size()) block.stop(Failure::ILLEGAL_ADDRESS, warp, lane, i.place, "reads beyond the parameters");
    for (uint32_t k = 0; k < i.vector; k++) put(warp.reg(i.operands[k]), lane, i.wide_value, read(block.parameters.data() + at + k * i.bytes, i.bytes, i.flag));
  });
}

// ---- atomics: lanes one after another --------------------------------------------------------------------------------------
namespace {

template <Atomic kind, class T>
T updated(T old, T value, T other) {
  switch (kind) {
    case Atomic::ADD:
      if constexpr (std::is_floating_point_v<T>) return old + value;
      else return static_cast<T>(static_cast<uint64_t>(old) + static_cast<uint64_t>(value));
    case Atomic::MIN: return value < old ? value : old;
    case Atomic::MAX: return old < value ? value : old;
    case Atomic::EXCH: return value;
    case Atomic::CAS: return old == value ? other : old;
    default: break;
  }
  if constexpr (std::is_integral_v<T>) return kind == Atomic::AND ? old & value : kind == Atomic::OR ? old | value : old ^ value;
  else return old;
}

template <Atomic kind, class T>
void run_atomic(Warp& warp, const Instruction& i, uint32_t mask) {
  for_lanes(mask, [&](uint32_t lane) {
    char* const at = warp.block->reach(warp, i, lane, base_of(warp, i, lane), sizeof(T), i.space);
    T old;
    memcpy(&old, at, sizeof old);
    const T value = get<T>(warp.reg(i.operands[1]), lane), other = i.operands[2] >= 0 ? get<T>(warp.reg(i.operands[2]), lane) : value;
    const T after = updated<kind>(old, value, other);
    memcpy(at, &after, sizeof after);
    mark_written(*warp.block, i.space, at, sizeof after);
    if (i.operands[0] >= 0) set<T>(warp.reg(i.operands[0]), lane, old);
  });
}

template <Atomic kind>
Handler atomic_of(Type type) {
  switch (type) {
    case Type::S32: return run_atomic<kind, int32_t>;
    case Type::S64: return run_atomic<kind, int64_t>;
    case Type::U32: case Type::B32: return run_atomic<kind, uint32_t>;
    case Type::U64: case Type::B64: return run_atomic<kind, uint64_t>;
    case Type::F32: return kind == Atomic::ADD ? run_atomic<kind, float> : nullptr;
    case Type::F64: return kind == Atomic::ADD ? run_atomic<kind, double> : nullptr;
    default: return nullptr;
  }
}

}  // namespace

Handler atomic_handler(Atomic kind, Type type) {
  switch (kind) {
    case Atomic::ADD: return atomic_of<Atomic::ADD>(type);
    case Atomic::MIN: return atomic_of<Atomic::MIN>(type);
    case Atomic::MAX: return atomic_of<Atomic::MAX>(type);
    case Atomic::EXCH: return atomic_of<Atomic::EXCH>(type);
    case Atomic::CAS: return atomic_of<Atomic::CAS>(type);
    case Atomic::AND: return atomic_of<Atomic::AND>(type);
    case Atomic::OR: return atomic_of<Atomic::OR>(type);
    default: return atomic_of<Atomic::XOR>(type);
  }
}

// ---- ldmatrix and cp.async -------------------------------------------------------------------------------------------------
void run_ldmatrix(Warp& warp, const Instruction& i, uint32_t) {
  Block& block = *warp.block;
  uint32_t results[32][4], offsets[32];
  MatrixExchange* exchanges[32];
  alignas(MatrixExchange) char storage[32][sizeof(MatrixExchange)];
  for (uint32_t lane = 0; lane < 32; lane++) {
    const uint64_t offset = base_of(warp, i, lane);
    const char* const row = block.reach_shared(warp, i, lane, offset, 16);
    if (memchr(block.shared_written.data() + (row - block.shared.data()), 0, 16))
      block.stop(Failure::OTHER, warp, lane, i.place, "uninitialised: ldmatrix reads a row of shared memory that nobody has written");
    offsets[lane] = static_cast<uint32_t>(offset);
    exchanges[lane] = new (storage[lane]) MatrixExchange(results[lane], row, i.flag);
  }
  exchanges[0]->compute(reinterpret_cast<Exchange**>(exchanges), ALL_LANES);
  for (uint32_t lane = 0; lane < 32; lane++)
    for (uint32_t k = 0; k < 4; k++) warp.reg(i.operands[k]).w[lane] = results[lane][k];
  block.count_shared(offsets, ALL_LANES, 16);
}

namespace {

void land(Block& block, const AsyncCopy& copy) {
  char* const to = block.shared.data() + copy.shared;
  memcpy(to, copy.global, copy.valid_bytes);
  memset(to + copy.valid_bytes, 0, copy.bytes - copy.valid_bytes);
  memset(block.shared_written.data() + copy.shared, 1, copy.bytes);
}

}  // namespace

void run_copy_async(Warp& warp, const Instruction& i, uint32_t mask) {
  Block& block = *warp.block;
  uint64_t addresses[32];
  uint32_t reading = 0;
  for_lanes(mask, [&](uint32_t lane) {
    const uint64_t to = base_of(warp, i, lane), from = warp.reg(i.operands[0]).q[lane];
    const uint32_t valid = std::min<uint32_t>(warp.reg(i.operands[1]).w[lane], i.bytes);
    block.reach_shared(warp, i, lane, to, i.bytes);
    if (from % i.bytes != 0) block.stop(Failure::MISALIGNED, warp, lane, i.place, "cp.async from an address that is no multiple of " + std::to_string(i.bytes));
    const char* const source = valid ? block.reach(warp, i, lane, from, valid, Space::GLOBAL) : nullptr;
    const AsyncCopy copy{lane, static_cast<uint32_t>(to), source, i.bytes, valid, i.place};
    if (block.options.lazy_copies) memset(block.shared_written.data() + to, 0, i.bytes);
    else land(block, copy);
    warp.copies[lane].push_back(copy);
    addresses[lane] = from;
    if (valid) reading |= 1u << lane;
  });
  Block::count_global(block.counters.loads, addresses, reading, i.bytes);
}

void run_copy_async_commit(Warp& warp, const Instruction&, uint32_t mask) {
  for_lanes(mask, [&](uint32_t lane) { warp.group_ends[lane].push_back(static_cast<uint32_t>(warp.copies[lane].size())); });
}

void run_copy_async_wait(Warp& warp, const Instruction& i, uint32_t mask) {
  for_lanes(mask, [&](uint32_t lane) {
    auto& ends = warp.group_ends[lane];
    auto& copies = warp.copies[lane];
    if (ends.size() <= static_cast<size_t>(i.offset)) return;
    const size_t groups = ends.size() - static_cast<size_t>(i.offset);
    const uint32_t landed = ends[groups - 1];
    if (warp.block->options.lazy_copies)
      for (uint32_t c = 0; c < landed; c++) land(*warp.block, copies[c]);
    copies.erase(copies.begin(), copies.begin() + landed);
    ends.erase(ends.begin(), ends.begin() + static_cast<ptrdiff_t>(groups));
    for (uint32_t& end : ends) end -= landed;
  });
}

// ---- counting --------------------------------------------------------------------------------------------------------------
void Block::count_global(Traffic& traffic, const uint64_t* addresses, uint32_t mask, uint32_t bytes) {
  if (mask == 0) return;
  uint64_t sectors[64];
  size_t count = 0;
  bool ascending = true;
  for_lanes(mask, [&](uint32_t lane) {
    const uint64_t first = addresses[lane] / 32, last = (addresses[lane] + bytes - 1) / 32;
    for (uint64_t sector = first; sector <= last; sector++) {
      if (count > 0 && sectors[count - 1] == sector) continue;
      ascending = ascending && (count == 0 || sectors[count - 1] < sector);
      sectors[count++] = sector;
    }
  });
  if (!ascending) std::sort(sectors, sectors + count);
  const uint64_t touched = static_cast<uint64_t>(std::unique(sectors, sectors + count) - sectors);
  const uint64_t all = static_cast<uint64_t>(__builtin_popcount(mask)) * bytes;
  traffic.requests++;
  traffic.bytes += all;
  traffic.sectors += touched;
  traffic.ideal_sectors += std::min(touched, (all + 31) / 32);  // lanes that share an address need fewer
}

/// Lanes are served in groups that together ask for at most 128 bytes; within a group, each bank gives one word at a time.
void Block::count_shared(const uint32_t* offsets, uint32_t mask, uint32_t bytes) {
  const uint32_t together = bytes <= 4 ? 32 : bytes == 8 ? 16 : 8;
  counters.shared_requests++;
  for (uint32_t first = 0; first < 32; first += together) {
    const uint32_t part = mask & ((together == 32 ? ALL_LANES : (1u << together) - 1) << first);
    if (part == 0) continue;
    uint32_t words[32][32], depth[32] = {}, most = 0;
    for_lanes(part, [&](uint32_t lane) {
      for (uint32_t word = offsets[lane] / 4; word <= (offsets[lane] + bytes - 1) / 4; word++) {
        const uint32_t bank = word % 32;
        if (std::find(words[bank], words[bank] + depth[bank], word) != words[bank] + depth[bank]) continue;
        words[bank][depth[bank]++] = word;
        most = std::max(most, depth[bank]);
      }
    });
    counters.shared_wavefronts += most;
    counters.shared_ideal++;
  }
}

}  // namespace tacotune::cuda::emulator::ptx
