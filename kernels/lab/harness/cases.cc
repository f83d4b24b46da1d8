// SPDX-License-Identifier: Apache-2.0
// The cases of every op for the harness: sizes around tiles and warps, every storage type, compute type and flag; and those
// of realistic size (a layer of a 7B model at 512 tokens, products at 2048 as well). The suite's own tables (test/ops) go
// over the same ops from JavaScript; these are for a machine that has no Node.
#include <random>
#include <sstream>

#include "kernels/cuda/ops.h"
#include "kernels/reference/numbers.h"
#include "kernels/reference/reference.h"
#include "trial.h"

namespace tacotune::lab {
namespace {

using Cases = std::vector<std::unique_ptr<Case>>;

std::mt19937_64 source(1);

std::vector<float> normal(Int n, float spread = 1) {
  std::normal_distribution<float> draw(0, spread);
  std::vector<float> values(static_cast<size_t>(n));
  for (float& x : values) x = draw(source);
  return values;
}
std::vector<float> uniform(Int n, float low, float high) {
  std::uniform_real_distribution<float> draw(low, high);
  std::vector<float> values(static_cast<size_t>(n));
  for (float& x : values) x = draw(source);
  return values;
}
template <class T>
std::vector<T> integers(Int n, int64_t low, int64_t high) {
  std::uniform_int_distribution<int64_t> draw(low, high);
  std::vector<T> values(static_cast<size_t>(n));
  for (T& x : values) x = static_cast<T>(draw(source));
  return values;
}
std::vector<uint8_t> bytes(Int n) { return integers<uint8_t>(n, 0, 255); }

/// Values of a storage type as bytes.
std::vector<uint8_t> stored(Int n, Int type) {
  const auto values = normal(n);
  std::vector<uint8_t> out(static_cast<size_t>(n * (type == STORE_F32 ? 4 : 2)));
  reference::from_f32({out.data(), static_cast<Int>(out.size())}, {values.data(), n}, type, n);
  return out;
}

Written<float> unset(Int n) { return {std::vector<float>(static_cast<size_t>(n), NAN)}; }
Written<uint8_t> unset_bytes(Int n) { return {std::vector<uint8_t>(static_cast<size_t>(n), 255)}; }
Written<float> updated(std::vector<float> values) { return {std::move(values)}; }
Written<float> assigned_or_added(Int n, Int accumulate) { return accumulate ? updated(normal(n)) : unset(n); }
template <class T>
Given<T> given(std::vector<T> values) { return {std::move(values)}; }

template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

const Tolerance EXACT{0, 0}, ROUNDING{2e-6, 0}, SUMS{1e-5, 0};
/// Both sides round the factors of a product to bf16; sums are f32 in another order.
const Tolerance PRODUCT{1e-5, 0};
/// Attention in bf16 also rounds probabilities, and the reference does not round at all.
const Tolerance ATTENTION_BF16{6e-2, 0};

struct MNK {
  Int M, N, K;
};
const std::vector<MNK> PRODUCTS = {{0, 4, 4},     {3, 0, 4},      {3, 4, 0},     {1, 1, 1},      {1, 33, 65},   {2, 5, 3},     {13, 31, 15}, {16, 8, 64},   {1, 200, 320},
                                   {4, 70, 288},  {8, 64, 128},   {17, 65, 64},  {33, 96, 127},  {64, 64, 64},  {65, 129, 192}, {70, 5, 33},  {128, 128, 128}, {130, 140, 352},
                                   {200, 16, 600}, {200, 300, 16}, {256, 8, 320}, {300, 256, 64}, {50, 130, 2100}};

template <class Make>
void over_products(Cases& cases, bool typical, Make make) {
  if (typical) {
    for (const Int M : {512, 2048})
      for (const Int R : {0, 64}) make(MNK{M, 4096, 4096}, STORE_BF16, 1.0f, 0, COMPUTE_BF16, true, R);
    return;
  }
  const Int ranks[] = {0, 5, 16, 64, 70};
  for (size_t i = 0; i < PRODUCTS.size(); i++)
    for (const Int compute : {COMPUTE_F32, COMPUTE_BF16})
      make(PRODUCTS[i], static_cast<Int>(i % 3), i % 2 ? 0.5f : 1.0f, static_cast<Int>(i / 2 % 2), compute, (i + static_cast<size_t>(compute)) % 2 == 0, ranks[i % 5]);
  (void)cases;
}

std::string product_text(MNK s, Int compute, Int accumulate) {
  return text("M=", s.M, " N=", s.N, " K=", s.K, compute ? " bf16" : " f32", accumulate ? " +=" : "");
}

struct Nf4 {
  Given<uint8_t> codes, absmax_codes;
  Given<float> absmax;
  float offset;
};
Nf4 nf4(Int n, bool nested) {
  const Int blocks = cuda::ceil_div(n, 64);
  return {given(bytes(cuda::ceil_div(n, 2))), given(nested ? bytes(blocks) : std::vector<uint8_t>()),
          given(uniform(nested ? cuda::ceil_div(blocks, 256) : blocks, 0.5f, 1.0f)), nested ? 1.25f : 0.0f};
}

#define BOTH(op) #op, shape, reference::op, cuda::op

Cases linear_cases(const std::string& op, bool typical) {
  Cases cases;
  over_products(cases, typical, [&](MNK s, Int type, float alpha, Int accumulate, Int compute, bool nested, Int R) {
    const auto [M, N, K] = s;
    const bool forward = op.find("forward") != std::string::npos, has_rank = op != "linear_weight_backward";
    if (typical && R > 0 && !has_rank) return;
    const std::string shape = product_text(s, compute, accumulate) + (has_rank ? text(" R=", R) : "") + (op.find("nf4") != std::string::npos ? (nested ? " nested" : "") : text(" type=", type));
    const double depths = static_cast<double>(N) * static_cast<double>(K) + (has_rank ? static_cast<double>(forward ? N : K) * static_cast<double>(R) : 0.0);
    const double flops = 2.0 * static_cast<double>(M) * depths;
    const auto low = [&] { return given(normal(M * R)); };
    const auto factor = [&] { return given(normal((forward ? N : K) * R)); };
    const Nf4 q = nf4(op.find("nf4") != std::string::npos ? N * K : 0, nested);
    if (op == "linear_forward")
      cases.push_back(trial(BOTH(linear_forward), PRODUCT, flops, assigned_or_added(M * N, accumulate), given(normal(M * K)), given(stored(N * K, type)), type, low(), factor(), M, N, K, R, alpha, 0.25f, accumulate, compute));
    if (op == "linear_backward")
      cases.push_back(trial(BOTH(linear_backward), PRODUCT, flops, assigned_or_added(M * K, accumulate), given(normal(M * N)), given(stored(N * K, type)), type, low(), factor(), M, N, K, R, alpha, 0.25f, accumulate, compute));
    if (op == "linear_weight_backward")
      cases.push_back(trial(BOTH(linear_weight_backward), PRODUCT, flops, updated(normal(N * K)), given(normal(M * N)), given(normal(M * K)), M, N, K, alpha, compute));
    if (op == "linear_nf4_forward")
      cases.push_back(trial(BOTH(linear_nf4_forward), PRODUCT, flops, assigned_or_added(M * N, accumulate), given(normal(M * K)), q.codes, q.absmax_codes, q.absmax, q.offset, low(), factor(), M, N, K, R, 0.25f, accumulate, compute));
    if (op == "linear_nf4_backward")
      cases.push_back(trial(BOTH(linear_nf4_backward), PRODUCT, flops, assigned_or_added(M * K, accumulate), given(normal(M * N)), q.codes, q.absmax_codes, q.absmax, q.offset, low(), factor(), M, N, K, R, 0.25f, accumulate, compute));
  });
  return cases;
}

Cases cross_entropy_cases(const std::string& op, bool typical) {
  struct Head {
    Int M, V, C;
  };
  Cases cases;
  const std::vector<Head> heads = typical ? std::vector<Head>{{512, 32000, 4096}} : std::vector<Head>{{0, 5, 4}, {1, 1, 1}, {3, 2, 7}, {13, 31, 16}, {40, 257, 64}, {70, 1000, 96}, {130, 320, 64}};
  for (size_t i = 0; i < heads.size(); i++)
    for (const Int compute : {COMPUTE_F32, COMPUTE_BF16}) {
      const auto [M, V, C] = heads[i];
      if (typical && compute == COMPUTE_F32) continue;
      const Int type = typical ? Int{STORE_BF16} : static_cast<Int>(i % 3);
      auto labels = integers<int32_t>(M, 0, V - 1);
      for (size_t m = 0; m < labels.size(); m++)
        if (m % 5 == 0) labels[m] = -100;
      const std::string shape = text("M=", M, " V=", V, " C=", C, compute ? " bf16" : " f32", " type=", type);
      const double product = 2.0 * static_cast<double>(M) * static_cast<double>(V) * static_cast<double>(C);
      const auto inp = given(normal(M * C));
      const auto weight = given(stored(V * C, type));
      // The gradient of bf16 logits is rounded once more before its product.
      if (op == "cross_entropy_forward")
        cases.push_back(trial(BOTH(cross_entropy_forward), SUMS, product, unset(M), inp, weight, type, given(labels), M, V, C, compute));
      else
        cases.push_back(trial(BOTH(cross_entropy_forward_backward), compute ? Tolerance{3e-2, 0} : SUMS, 2 * product, unset(M), unset(M * C),
                              type == STORE_F32 ? updated(normal(V * C)) : updated({}), inp, weight, type, given(labels), 0.5f, M, V, C, compute));
    }
  return cases;
}

std::vector<int32_t> starts_of(Int B, Int Tq, Int Tk, int mask) {
  std::vector<int32_t> starts;
  for (Int b = 0; b < B; b++)
    for (Int t = 0; t < Tq; t++) {
      const Int p = Tk - Tq + t;
      starts.push_back(static_cast<int32_t>(mask == 0 ? 0 : mask == 1 ? p / 13 * 13 : integers<int32_t>(1, 0, p)[0]));
    }
  return starts;
}

Cases attention_cases(const std::string& op, bool typical) {
  struct Heads {
    Int B, Tq, Tk, Hq, Hkv, D;
  };
  Cases cases;
  std::vector<Heads> all = {{0, 3, 3, 2, 1, 4}, {1, 1, 1, 1, 1, 1}, {2, 7, 7, 4, 2, 8}, {1, 33, 33, 2, 1, 16}, {2, 64, 64, 2, 2, 32}, {1, 65, 65, 3, 1, 64}, {1, 130, 130, 2, 1, 48}, {1, 150, 150, 2, 2, 128}};
  if (op == "attention_forward") for (const Heads& cached : {Heads{2, 1, 70, 4, 2, 16}, {1, 1, 300, 2, 1, 128}, {1, 5, 200, 2, 2, 64}}) all.push_back(cached);
  if (typical) all = {{1, 512, 512, 32, 32, 128}};
  for (size_t i = 0; i < all.size(); i++)
    for (const Int compute : {COMPUTE_F32, COMPUTE_BF16}) {
      const auto [B, Tq, Tk, Hq, Hkv, D] = all[i];
      if (typical && compute == COMPUTE_F32) continue;
      const int mask = typical ? 0 : static_cast<int>((i + static_cast<size_t>(compute)) % 3);
      const std::string shape = text("B=", B, " Tq=", Tq, " Tk=", Tk, " Hq=", Hq, " Hkv=", Hkv, " D=", D, compute ? " bf16" : " f32", " mask=", mask);
      const Tolerance tolerance = compute ? ATTENTION_BF16 : SUMS;
      const auto q = normal(B * Tq * Hq * D), k = normal(B * Tk * Hkv * D), v = normal(B * Tk * Hkv * D);
      const auto starts = starts_of(B, Tq, Tk, mask);
      const double pairs = static_cast<double>(B * Hq * Tq) * static_cast<double>(Tk) / 2 * static_cast<double>(D);
      if (op == "attention_forward") {
        cases.push_back(trial(BOTH(attention_forward), tolerance, 4 * pairs, unset(B * Tq * Hq * D), unset(B * Hq * Tq), given(q), given(k), given(v), given(starts), B, Tq, Tk, Hq, Hkv, D, compute));
        continue;
      }
      std::vector<float> out(q.size()), lse(static_cast<size_t>(B * Hq * Tq));
      reference::attention_forward({out.data(), static_cast<Int>(out.size())}, {lse.data(), static_cast<Int>(lse.size())}, {q.data(), static_cast<Int>(q.size())},
                                   {k.data(), static_cast<Int>(k.size())}, {v.data(), static_cast<Int>(v.size())}, {starts.data(), static_cast<Int>(starts.size())}, B, Tq, Tk, Hq, Hkv, D, compute);
      cases.push_back(trial(BOTH(attention_backward), tolerance, 10 * pairs, unset(B * Tq * Hq * D), unset(B * Tk * Hkv * D), unset(B * Tk * Hkv * D), given(normal(B * Tq * Hq * D)), given(q),
                            given(k), given(v), given(out), given(lse), given(starts), B, Tq, Hq, Hkv, D, compute));
    }
  return cases;
}

Cases row_cases(const std::string& op, bool typical) {
  struct Rows {
    Int M, C;
  };
  Cases cases;
  const std::vector<Rows> all = typical ? std::vector<Rows>{{512, 4096}} : std::vector<Rows>{{0, 8}, {1, 1}, {2, 3}, {3, 15}, {5, 16}, {7, 63}, {33, 64}, {9, 65}, {130, 288}, {37, 2048}, {3, 8200}};
  for (size_t i = 0; i < all.size(); i++) {
    const auto [M, C] = all[i];
    const Int V = typical ? Int{32000} : static_cast<Int>(i) + 2, type = static_cast<Int>(i % 3), accumulate = static_cast<Int>(i % 2);
    const std::string shape = text("M=", M, " C=", C, " V=", V, " type=", type, accumulate ? " +=" : "");
    const auto inp = normal(M * C, 3), weight = normal(C), rstd = uniform(M, 0.2f, 2.0f);
    if (op == "embedding_forward")
      cases.push_back(trial(BOTH(embedding_forward), EXACT, 0, unset(M * C), given(integers<int32_t>(M, 0, V - 1)), given(stored(V * C, type)), type, M, V, C));
    if (op == "embedding_backward")
      cases.push_back(trial(BOTH(embedding_backward), SUMS, 0, updated(normal(V * C)), given(normal(M * C)), given(integers<int32_t>(M, 0, V - 1)), M, V, C));
    if (op == "rmsnorm_forward") cases.push_back(trial(BOTH(rmsnorm_forward), ROUNDING, 0, unset(M * C), unset(M), given(inp), given(weight), M, C, 1e-5f));
    if (op == "rmsnorm_backward")
      cases.push_back(trial(BOTH(rmsnorm_backward), SUMS, 0, assigned_or_added(M * C, accumulate), i % 3 ? updated(normal(C)) : updated({}), given(normal(M * C)), given(inp), given(rstd), given(weight), M,
                            C, accumulate));
  }
  return cases;
}

Cases rope_cases(const std::string& op, bool typical) {
  struct Heads {
    Int M, H, D, P;
  };
  Cases cases;
  const std::vector<Heads> all = typical ? std::vector<Heads>{{512, 32, 128, 2048}} : std::vector<Heads>{{0, 2, 8, 4}, {1, 1, 2, 1}, {5, 3, 6, 9}, {4, 2, 16, 12}, {3, 2, 34, 5}, {70, 8, 128, 80}};
  for (const auto& [M, H, D, P] : all) {
    const std::string shape = text("M=", M, " H=", H, " D=", D, " P=", P);
    const auto x = updated(normal(M * H * D));
    const auto table = given(uniform(P * D, -1, 1));
    const auto positions = given(integers<int32_t>(M, 0, P - 1));
    if (op == "rope_forward") cases.push_back(trial(BOTH(rope_forward), ROUNDING, 0, x, table, positions, M, H, D, P));
    else cases.push_back(trial(BOTH(rope_backward), ROUNDING, 0, x, table, positions, M, H, D, P));
  }
  return cases;
}

Cases element_cases(const std::string& op, bool typical) {
  Cases cases;
  const std::vector<Int> lengths = typical ? std::vector<Int>{Int{512} * 11008} : std::vector<Int>{0, 1, 3, 4, 5, 31, 32, 33, 63, 64, 65, 255, 256, 257, 1000, 16385, 100003};
  for (size_t i = 0; i < lengths.size(); i++) {
    const Int n = lengths[i], accumulate = static_cast<Int>(i % 2), blocks = cuda::ceil_div(n, 64), states = cuda::ceil_div(n, 256);
    const std::string shape = text("n=", n, accumulate ? " +=" : "");
    const auto a = given(normal(n, 3)), b = given(normal(n));
    const double rate = 1e-2;
    if (op == "swiglu_forward") cases.push_back(trial(BOTH(swiglu_forward), ROUNDING, 0, unset(n), a, b, n));
    if (op == "swiglu_backward") cases.push_back(trial(BOTH(swiglu_backward), ROUNDING, 0, unset(n), unset(n), given(normal(n)), a, b, n));
    if (op == "dropout_forward") cases.push_back(trial(BOTH(dropout_forward), ROUNDING, 0, unset(n), a, n, 0.25f, (Int{1} << 53) - 1));
    if (op == "dropout_backward") cases.push_back(trial(BOTH(dropout_backward), ROUNDING, 0, assigned_or_added(n, accumulate), a, n, 0.25f, Int{77}, accumulate));
    if (op == "add") cases.push_back(trial(BOTH(add), EXACT, 0, updated(normal(n)), a, n));
    if (op == "copy") cases.push_back(trial(BOTH(copy), EXACT, 0, unset(n), a, n));
    if (op == "fill") cases.push_back(trial(BOTH(fill), EXACT, 0, unset(n), 1.5f, n));
    if (op == "sum") cases.push_back(trial(BOTH(sum), SUMS, 0, updated(normal(1)), given(uniform(n, 0, 1)), n));
    if (op == "sum_of_squares") cases.push_back(trial(BOTH(sum_of_squares), SUMS, 0, unset(1), a, n));
    if (op == "adamw")
      cases.push_back(trial(BOTH(adamw), ROUNDING, 0, updated(normal(n)), b, updated(normal(n, 0.1f)), updated(uniform(n, 0, 0.1f)), n, rate, 0.9, 0.999, 1e-8, 0.01, Int{5}, 0.75));
    if (op == "adamw_8bit")
      cases.push_back(trial(BOTH(adamw_8bit), Tolerance{2e-6, 0.002}, 0, updated(normal(n)), b, Written<uint8_t>{bytes(n)}, Written<uint8_t>{bytes(n)}, updated(uniform(states, 0.01f, 0.1f)),
                            updated(uniform(states, 0.01f, 0.1f)), n, rate, 0.9, 0.999, 1e-8, 0.01, Int{5}, 0.75));
    if (op == "nf4_quantize") cases.push_back(trial(BOTH(nf4_quantize), EXACT, 0, unset_bytes(cuda::ceil_div(n, 2)), unset(blocks), a, n));
    if (op == "nf4_double_quantize" && n > 0 && n < 200000) cases.push_back(trial(BOTH(nf4_double_quantize), EXACT, 0, unset_bytes(n), unset(states), unset(1), given(uniform(n, 0.01f, 2)), n));
    if (op == "nf4_dequantize") {
      const Nf4 q = nf4(n, accumulate == 1);
      cases.push_back(trial(BOTH(nf4_dequantize), EXACT, 0, unset(n), q.codes, q.absmax_codes, q.absmax, q.offset, n));
    }
    const Int type = static_cast<Int>(i % 3);
    if (op == "to_f32") cases.push_back(trial(BOTH(to_f32), EXACT, 0, unset(n), given(stored(n, type)), type, n));
    if (op == "from_f32") cases.push_back(trial(BOTH(from_f32), EXACT, 0, unset_bytes(n * (type == STORE_F32 ? 4 : 2)), a, type, n));
  }
  return cases;
}

}  // namespace

std::vector<std::unique_ptr<Case>> cases_of(const std::string& op, bool typical) {
  source.seed(std::hash<std::string>()(op));
  for (const auto make : {linear_cases, cross_entropy_cases, attention_cases, row_cases, rope_cases, element_cases}) {
    const bool mine = make == linear_cases          ? op.rfind("linear", 0) == 0
                      : make == cross_entropy_cases ? op.rfind("cross_entropy", 0) == 0
                      : make == attention_cases     ? op.rfind("attention", 0) == 0
                      : make == row_cases           ? op.rfind("embedding", 0) == 0 || op.rfind("rmsnorm", 0) == 0
                      : make == rope_cases          ? op.rfind("rope", 0) == 0
                                                    : true;
    if (mine) return make(op, typical);
  }
  return {};
}

std::vector<std::string> all_ops() {
  return {
#define TACOTUNE_NAME(op, arguments) #op,
      TACOTUNE_OPS(TACOTUNE_NAME)
#undef TACOTUNE_NAME
  };
}

}  // namespace tacotune::lab
