// SPDX-License-Identifier: Apache-2.0
// Runs blocks of warps. A warp is a set of groups of lanes, each at its own instruction; the group that is furthest behind
// goes first and merges with those it catches up with, which is where branches meet again. A warp runs until all of it
// waits at the barrier, and then the next one runs, so this shows fewer races than the emulator; it is here for the PTX.
#include <algorithm>
#include <numeric>

#include "kernels/lab/collectives.h"
#include "kernels/lab/ptx/block.h"

namespace tacotune::cuda::emulator::ptx {

void run_nothing(Warp&, const Instruction&, uint32_t) {}

void run_pack(Warp& warp, const Instruction& i, uint32_t mask) {
  const uint32_t bits = 8u * i.bytes / i.vector;
  for_lanes(mask, [&](uint32_t lane) {
    uint64_t whole = 0;
    for (uint32_t k = 0; k < i.vector; k++) whole |= (static_cast<uint64_t>(warp.reg(i.operands[1 + k]).w[lane]) & ((uint64_t(1) << bits) - 1)) << bits * k;
    if (i.bytes == 8) warp.reg(i.operands[0]).q[lane] = whole;
    else warp.reg(i.operands[0]).w[lane] = static_cast<uint32_t>(whole);
  });
}

void run_unpack(Warp& warp, const Instruction& i, uint32_t mask) {
  const uint32_t bits = 8u * i.bytes / i.vector;
  for_lanes(mask, [&](uint32_t lane) {
    const uint64_t whole = i.bytes == 8 ? warp.reg(i.operands[0]).q[lane] : warp.reg(i.operands[0]).w[lane];
    for (uint32_t k = 0; k < i.vector; k++)
      if (i.operands[1 + k] >= 0) warp.reg(i.operands[1 + k]).w[lane] = static_cast<uint32_t>(whole >> bits * k & ((uint64_t(1) << bits) - 1));
  });
}

/// Operands: d, a, b, c (segment mask and clamp), members, and the predicate "in range". PTX ISA, shfl.sync.
void run_shuffle(Warp& warp, const Instruction& i, uint32_t mask) {
  const Register a = warp.reg(i.operands[1]);  // a copy: d may be the same register
  for_lanes(mask, [&](uint32_t lane) {
    const int b = static_cast<int>(warp.reg(i.operands[2]).w[lane] & 31), c = static_cast<int>(warp.reg(i.operands[3]).w[lane]);
    const int self = static_cast<int>(lane), segment = c >> 8 & 31, clamp = c & 31;
    const int last = (self & segment) | (clamp & ~segment), first = self & segment;
    const Shuffle kind = static_cast<Shuffle>(i.mode);
    int from = kind == Shuffle::INDEX ? first | (b & ~segment) : kind == Shuffle::XOR ? self ^ b : kind == Shuffle::DOWN ? self + b : self - b;
    const bool in_range = kind == Shuffle::UP ? from >= last : from <= last;
    if (!in_range) from = self;
    warp.reg(i.operands[0]).w[lane] = mask >> from & 1u ? a.w[from] : ~0u;  // from a lane that is not there: poison
    if (i.operands[5] >= 0) warp.reg(i.operands[5]).w[lane] = in_range;
  });
}

void run_vote(Warp& warp, const Instruction& i, uint32_t mask) {
  uint32_t votes = 0;
  for_lanes(mask, [&](uint32_t lane) { votes |= static_cast<uint32_t>((warp.reg(i.operands[1]).w[lane] != 0) != i.flag) << lane; });
  const uint32_t result = i.mode == 0 ? votes != 0 : i.mode == 1 ? votes == mask : votes;
  for_lanes(mask, [&](uint32_t lane) { warp.reg(i.operands[0]).w[lane] = result; });
}

namespace {

template <float (*value_of)(uint16_t)>
void multiply(Warp& warp, const Instruction& i) {
  using Mma = MmaExchange<value_of>;
  uint32_t a[32][4], b[32][2];
  float c[32][4], d[32][4];
  Mma* exchanges[32];
  alignas(Mma) char storage[32][sizeof(Mma)];
  for (uint32_t lane = 0; lane < 32; lane++) {
    for (int k = 0; k < 4; k++) a[lane][k] = warp.reg(i.operands[4 + k]).w[lane];
    for (int k = 0; k < 2; k++) b[lane][k] = warp.reg(i.operands[8 + k]).w[lane];
    for (int k = 0; k < 4; k++) c[lane][k] = get<float>(warp.reg(i.operands[10 + k]), lane);
    exchanges[lane] = new (storage[lane]) Mma(d[lane], a[lane], b[lane], c[lane]);
  }
  exchanges[0]->compute(reinterpret_cast<Exchange**>(exchanges), ALL_LANES);
  for (uint32_t lane = 0; lane < 32; lane++)
    for (int k = 0; k < 4; k++) set<float>(warp.reg(i.operands[k]), lane, d[lane][k]);
}

}  // namespace

void run_mma(Warp& warp, const Instruction& i, uint32_t) {
  if (i.mode == 0) multiply<bf16_value>(warp, i);
  else multiply<f16_value>(warp, i);
}

// ---- blocks ----------------------------------------------------------------------------------------------------------------
Block::Block(const Module& module, const Entry& entry_, const Options& options_, FindMemory find, Counters& counters_)
    : entry(entry_), options(options_), counters(counters_), find_(std::move(find)), module_(module) {}

std::string Block::line(uint32_t place) const { return entry.places[place].file + ":" + std::to_string(entry.places[place].line); }

void Block::stop(Failure failure, const Warp& warp, uint32_t lane, uint32_t place, const std::string& text) const {
  throw Stop{failure, "thread " + std::to_string(32 * warp.index + lane) + " at " + line(place) + ": " + text};
}

char* Block::reach_shared(const Warp& warp, const Instruction& i, uint32_t lane, uint64_t offset, uint32_t bytes) {
  if ((offset & (bytes - 1)) != 0) stop(Failure::MISALIGNED, warp, lane, i.place, std::to_string(bytes) + " bytes of shared memory at an offset of " + std::to_string(offset));
  bool held = offset >= entry.shared_bytes && offset + bytes <= entry.shared_bytes + dynamic_bytes_;
  for (const SharedArray& array : entry.shared) held = held || (offset >= array.offset && offset + bytes <= array.offset + array.bytes);
  if (!held) stop(Failure::ILLEGAL_ADDRESS, warp, lane, i.place, "out of bounds: " + std::to_string(bytes) + " bytes at offset " + std::to_string(offset) + " of shared memory, outside every array");
  return shared.data() + offset;
}

char* Block::look_up(const Warp& warp, const Instruction& i, uint32_t lane, uint64_t address, uint32_t bytes, Space space) {
  if (space == Space::GENERIC && address - SHARED_WINDOW < WINDOW_BYTES) return reach_shared(warp, i, lane, address - SHARED_WINDOW, bytes);
  if (space == Space::SHARED) return reach_shared(warp, i, lane, address, bytes);
  if (space == Space::LOCAL || address - LOCAL_WINDOW < WINDOW_BYTES) {
    const uint64_t offset = space == Space::LOCAL ? address : address - LOCAL_WINDOW;
    if (offset + bytes > entry.local_bytes) stop(Failure::ILLEGAL_ADDRESS, warp, lane, i.place, "out of bounds: local memory");
    return const_cast<char*>(warp.local.data()) + size_t(lane) * entry.local_bytes + offset;
  }
  if ((address & (bytes - 1)) != 0) stop(Failure::MISALIGNED, warp, lane, i.place, "misaligned: " + std::to_string(bytes) + " bytes of global memory at " + std::to_string(address));
  uint64_t begin = 0, end = 0;
  if (find_(address, begin, end) && address + bytes <= end) {
    hit_begin_ = begin;
    hit_end_ = end;
    return reinterpret_cast<char*>(address);
  }
  for (const auto& table : module_.tables) {
    const uint64_t start = reinterpret_cast<uint64_t>(table->data());
    if (address >= start && address + bytes <= start + table->size()) return reinterpret_cast<char*>(address);
  }
  stop(Failure::ILLEGAL_ADDRESS, warp, lane, i.place, "out of bounds: " + std::to_string(bytes) + " bytes of global memory outside every allocation");
}

void Block::begin(dim3 index_, uint32_t dynamic_bytes) {
  index = index_;
  dynamic_bytes_ = dynamic_bytes;
  shared.assign(entry.shared_bytes + dynamic_bytes, static_cast<char>(0xff));
  shared_written.assign(shared.size(), 0);
  const bool fresh = warps.empty();
  if (fresh) warps.resize((threads + 31) / 32);
  for (uint32_t w = 0; w < warps.size(); w++) {
    Warp& warp = warps[w];
    warp.block = this;
    warp.index = w;
    const uint32_t lanes = std::min(32u, threads - 32 * w);
    warp.alive = lanes == 32 ? ALL_LANES : (1u << lanes) - 1;
    warp.groups.assign(1, {Group::State::RUNNING, 0, warp.alive});
    warp.local.assign(size_t(32) * entry.local_bytes, static_cast<char>(0xff));
    if (fresh) {
      warp.registers.resize(entry.registers);
      for (const auto& [r, constant] : entry.constants)
        for (uint32_t lane = 0; lane < 32; lane++) constant.wide ? warp.reg(r).q[lane] = constant.bits : warp.reg(r).w[lane] = static_cast<uint32_t>(constant.bits);
    }
    for (const auto& [r, special] : entry.specials)
      for (uint32_t lane = 0; lane < 32; lane++) {
        const uint32_t thread = 32 * w + lane;
        const uint32_t values[] = {thread % size.x, thread / size.x % size.y, thread / size.x / size.y, size.x, size.y, size.z, index.x, index.y, index.z, grid.x, grid.y, grid.z, lane, w};
        warp.reg(r).w[lane] = values[static_cast<size_t>(special)];
      }
  }
  counters.blocks++;
  counters.warps += warps.size();
}

/// Runs a group until it waits, ends, splits, or reaches where another group stands.
bool Block::run_group(Warp& warp, size_t at) {
  Group& group = warp.groups[at];
  uint32_t limit = UINT32_MAX;
  for (size_t k = 0; k < warp.groups.size(); k++)
    if (k != at && warp.groups[k].state != Group::State::AT_BARRIER && warp.groups[k].pc > group.pc) limit = std::min(limit, warp.groups[k].pc);
  while (group.pc < limit) {
    const Instruction& i = entry.code[group.pc];
    uint32_t mask = group.mask;
    if (i.guard >= 0) {
      uint32_t holds = 0;
      const Register& p = warp.reg(i.guard);
      for_lanes(group.mask, [&](uint32_t lane) { holds |= static_cast<uint32_t>((p.w[lane] != 0) != i.guard_negated) << lane; });
      mask = holds;
    }
    if (i.flow != Flow::COLLECTIVE || mask == 0) {
      counters.instructions++;
      counters.lane_instructions += static_cast<uint64_t>(__builtin_popcount(mask));
      counters.diverged += group.mask != warp.alive;
      counters.work[static_cast<size_t>(i.work)]++;
    }
    switch (i.flow) {
      case Flow::NEXT:
        if (mask) i.run(warp, i, mask);
        group.pc++;
        break;
      case Flow::BRANCH:
        if (mask == group.mask) {
          group.pc = i.target;
          if (warp.groups.size() > 1) return true;  // the order of groups may have changed
        } else {
          group.pc++;
          group.mask &= ~mask;
          if (mask) warp.groups.push_back({Group::State::RUNNING, i.target, mask});
          if (mask) return true;
        }
        break;
      case Flow::RETURN:
        for_lanes(mask, [&](uint32_t lane) {
          if (!warp.copies[lane].empty()) stop(Failure::OTHER, warp, lane, warp.copies[lane][0].place, "exits with a cp.async never waited for");
        });
        warp.alive &= ~mask;
        group.mask &= ~mask;
        group.pc++;
        if (group.mask == 0) {
          warp.groups.erase(warp.groups.begin() + static_cast<ptrdiff_t>(at));
          return true;
        }
        break;
      case Flow::BARRIER:
        group.state = Group::State::AT_BARRIER;
        return true;
      case Flow::COLLECTIVE: {
        if (mask == 0) {
          group.pc++;
          break;
        }
        const uint32_t lane = static_cast<uint32_t>(__builtin_ctz(mask));
        const uint32_t members = i.members >= 0 ? warp.reg(i.members).w[lane] : ALL_LANES;
        if (members & ~warp.alive) stop(Failure::OTHER, warp, lane, i.place, "a collective waits for lanes that have exited or never were");
        if (mask & ~members) stop(Failure::OTHER, warp, lane, i.place, "a lane calls a collective whose mask lacks it");
        if ((mask & members) != members) {
          group.state = Group::State::WAITING;
          return true;
        }
        counters.instructions++;
        counters.lane_instructions += static_cast<uint64_t>(__builtin_popcount(mask));
        counters.diverged += group.mask != warp.alive;
        counters.work[static_cast<size_t>(i.work)]++;
        i.run(warp, i, mask);
        group.pc++;
      }
    }
  }
  return true;
}

/// Groups at one place become one, and those that waited for company try again.
void Block::merge(Warp& warp, size_t& at) {
  for (size_t k = warp.groups.size(); k-- > 0;) {
    if (k == at || warp.groups[k].pc != warp.groups[at].pc || warp.groups[k].state == Group::State::AT_BARRIER) continue;
    warp.groups[at].mask |= warp.groups[k].mask;
    warp.groups.erase(warp.groups.begin() + static_cast<ptrdiff_t>(k));
    if (k < at) at--;
  }
  warp.groups[at].state = Group::State::RUNNING;
}

/// Until the whole warp waits at the barrier or has ended. Returns whether anything ran.
bool Block::step(Warp& warp) {
  for (bool any = false;; any = true) {
    size_t behind = SIZE_MAX;
    for (size_t k = 0; k < warp.groups.size(); k++) {
      const Group& group = warp.groups[k];
      if (group.state == Group::State::RUNNING && (behind == SIZE_MAX || group.pc < warp.groups[behind].pc)) behind = k;
    }
    if (behind == SIZE_MAX) {
      for (const Group& group : warp.groups)
        if (group.state == Group::State::WAITING)
          stop(Failure::OTHER, warp, static_cast<uint32_t>(__builtin_ctz(group.mask)), entry.code[group.pc].place, "deadlock: lanes wait at a collective that the others never reach");
      return any;
    }
    merge(warp, behind);
    run_group(warp, behind);
  }
}

void Block::open_barrier() {
  uint32_t pc = UINT32_MAX, arrived = 0, any = 0, all = 1, count = 0;
  for (Warp& warp : warps)
    for (const Group& group : warp.groups) {
      if (pc == UINT32_MAX) pc = group.pc;
      if (pc != group.pc && line(entry.code[pc].place) != line(entry.code[group.pc].place))
        stop(Failure::OTHER, warp, static_cast<uint32_t>(__builtin_ctz(group.mask)), entry.code[group.pc].place, "threads meet at different barriers, the other at " + line(entry.code[pc].place));
      arrived += static_cast<uint32_t>(__builtin_popcount(group.mask));
      const Instruction& i = entry.code[group.pc];
      if (i.mode == 0) continue;
      for_lanes(group.mask, [&](uint32_t lane) {
        const bool holds = (warp.reg(i.operands[1]).w[lane] != 0) != i.flag;
        any |= holds, all &= holds, count += holds;
      });
    }
  if (arrived != threads)
    throw Stop{Failure::OTHER, "a barrier that only part of the block reaches: " + std::to_string(arrived) + " of " + std::to_string(threads) + " threads at " + line(entry.code[pc].place)};
  for (Warp& warp : warps)
    for (Group& group : warp.groups) {
      const Instruction& i = entry.code[group.pc];
      if (i.mode) for_lanes(group.mask, [&](uint32_t lane) { warp.reg(i.operands[0]).w[lane] = i.mode == 1 ? any : i.mode == 2 ? all : count; });
      group.state = Group::State::RUNNING;
      group.pc++;
    }
}

void Block::run(Random& random) {
  std::vector<uint32_t> order(warps.size());
  std::iota(order.begin(), order.end(), 0);
  if (options.order == Order::REVERSED || options.order == Order::GREEDY_DOWN) std::reverse(order.begin(), order.end());
  for (;;) {
    if (options.order == Order::RANDOM || options.order == Order::GREEDY_RANDOM) random.shuffle(order.begin(), order.end());
    for (const uint32_t w : order) step(warps[w]);
    bool alive = false;
    for (const Warp& warp : warps) alive = alive || !warp.groups.empty();
    if (!alive) return;
    open_barrier();
  }
}

Outcome run_entry(const Module& module, const Entry& entry, dim3 grid, dim3 size, uint32_t dynamic_bytes, void** arguments, const Options& options, const FindMemory& find, Counters& counters) {
  if (!entry.trouble.empty()) return {Failure::OTHER, entry.name + ": " + entry.trouble};
  const uint32_t threads = size.x * size.y * size.z;
  if (threads > entry.most_threads)
    return {Failure::INVALID_LAUNCH, entry.name + ": " + std::to_string(threads) + " threads a block, its launch bounds allow " + std::to_string(entry.most_threads)};
  if (entry.shared_bytes + dynamic_bytes > options.shared_limit) return {Failure::INVALID_LAUNCH, entry.name + ": more shared memory than a block can have"};
  Block block(module, entry, options, find, counters);
  block.parameters.resize(entry.parameter_bytes);
  for (size_t i = 0; i < entry.parameters.size(); i++) memcpy(block.parameters.data() + entry.parameters[i].offset, arguments[i], entry.parameters[i].bytes);
  block.grid = grid;
  block.size = size;
  block.threads = threads;
  Random random(options.seed);
  counters.launches++;
  for (unsigned z = 0; z < grid.z; z++)
    for (unsigned y = 0; y < grid.y; y++)
      for (unsigned x = 0; x < grid.x; x++) {
        block.begin({x, y, z}, dynamic_bytes);
        try {
          block.run(random);
        } catch (const Stop& stop) {
          char place[80];
          snprintf(place, sizeof place, ", block (%u,%u,%u), PTX: ", x, y, z);
          return {stop.failure, entry.name + place + stop.text};
        }
      }
  return {};
}

}  // namespace tacotune::cuda::emulator::ptx
