// The table of functions of one Lanes type; included last in each isa_*.cc.

template <class L>
constexpr Isa make_isa(const char* name) {
  return {name,         fill_words<L>, fill_normals<L>, fill_normals_across<L>, apply<float>,
          apply<Bf16>,  apply_bytes,   noise_bytes_across<L>, gradient<float>, gradient<Bf16>};
}
