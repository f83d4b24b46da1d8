// SPDX-License-Identifier: Apache-2.0
// The expected places are those of the PTX ISA 9.0, "Matrix fragments for mma.m16n8k16 with floating point type" and
// "ldmatrix", written out element by element and from nothing else in this repository.
#include "probe.h"

#include <exception>
#include <vector>

#include "gpu.h"

namespace tacotune::cuda {

namespace {

/// Device memory for as long as it lives.
template <class T>
class Buffer {
 public:
  explicit Buffer(size_t count) : values(count), address_(Gpu::current().allocate(bytes())) {}
  ~Buffer() {
    try {
      Gpu::current().free(address_);
    } catch (const std::exception&) {
      // A kernel has failed, and the error on its way says so.
    }
  }
  Buffer(const Buffer&) = delete;
  void upload() { Gpu::current().upload(address_, values.data(), bytes()); }
  void download() { Gpu::current().download(values.data(), address_, bytes()); }
  T* device() const { return reinterpret_cast<T*>(address_); }
  std::vector<T> values;

 private:
  Int bytes() const { return static_cast<Int>(values.size() * sizeof(T)); }
  CUdeviceptr address_;
};

struct Place {
  int row, column;
};
Place place_in_a(int lane, int i) {  // (16,16)
  const int group = lane >> 2, in_group = lane % 4;
  const int row = (i < 2 || (i >= 4 && i < 6)) ? group : group + 8;
  const int column = i < 4 ? in_group * 2 + (i & 1) : in_group * 2 + (i & 1) + 8;
  return {row, column};
}
Place place_in_b(int lane, int i) {  // (16,8)
  const int row = i < 2 ? (lane % 4) * 2 + (i & 1) : (lane % 4) * 2 + (i & 1) + 8;
  return {row, lane >> 2};
}
Place place_in_d(int lane, int i) {  // (16,8)
  return {i < 2 ? lane >> 2 : (lane >> 2) + 8, (lane % 4) * 2 + (i & 1)};
}

ProbeResult probe_mma() {
  Buffer<float> out(MMA_A_ELEMENTS * MMA_B_ELEMENTS * MMA_OUTPUTS);
  launch<mma_probe_kernel>({MMA_A_ELEMENTS, 1, 1}, 32, 0, out.device());
  out.download();
  ProbeResult result{"mma.m16n8k16", static_cast<int64_t>(out.values.size()), 0};
  size_t at = 0;
  for (int a = 0; a < MMA_A_ELEMENTS; a++)
    for (int b = 0; b < MMA_B_ELEMENTS; b++)
      for (int d = 0; d < MMA_OUTPUTS; d++) {
        const Place in_a = place_in_a(a / 8, a % 8), in_b = place_in_b(b / 4, b % 4), in_d = place_in_d(d / 4, d % 4);
        const bool met = in_a.column == in_b.row && in_a.row == in_d.row && in_b.column == in_d.column;
        result.mismatches += out.values[at++] != (met ? 1.0f : 0.0f);
      }
  return result;
}

ProbeResult probe_ldmatrix() {
  Buffer<uint32_t> out(32 * 8);
  launch<ldmatrix_probe_kernel>({1, 1, 1}, 32, 0, out.device());
  out.download();
  ProbeResult result{"ldmatrix", static_cast<int64_t>(out.values.size()), 0};
  const auto pair = [](int first, int second) { return static_cast<uint32_t>(first | second << 16); };
  for (int lane = 0; lane < 32; lane++)
    for (int matrix = 0; matrix < 4; matrix++) {
      const int row = lane / 4, column = 2 * (lane % 4), base = 64 * matrix;
      result.mismatches += out.values[lane * 8 + matrix] != pair(base + 8 * row + column, base + 8 * row + column + 1);
      result.mismatches += out.values[lane * 8 + 4 + matrix] != pair(base + 8 * column + row, base + 8 * (column + 1) + row);
    }
  return result;
}

ProbeResult probe_copy_async() {
  Buffer<uint32_t> inp(32 * 4), out(32 * 4);
  for (size_t i = 0; i < inp.values.size(); i++) inp.values[i] = static_cast<uint32_t>(0x1000 + i);
  inp.upload();
  launch<copy_async_probe_kernel>({1, 1, 1}, 32, 0, out.device(), inp.device());
  out.download();
  ProbeResult result{"cp.async", static_cast<int64_t>(out.values.size()), 0};
  for (size_t lane = 0; lane < 32; lane++)
    for (size_t i = 0; i < 4; i++) {
      const size_t from = 31 - lane;
      result.mismatches += out.values[lane * 4 + i] != (from % 2 == 0 ? inp.values[from * 4 + i] : 0);
    }
  return result;
}

}  // namespace

void probe(ProbeResult (&results)[3]) {
  results[0] = probe_mma();
  results[1] = probe_ldmatrix();
  results[2] = probe_copy_async();
}

}  // namespace tacotune::cuda
