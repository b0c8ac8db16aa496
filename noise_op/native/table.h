// The table of functions of one Lanes type; included last in each isa_*.cc.

template <class L>
constexpr Isa make_isa(const char* name) {
  return {name,
          {{4, fill_words<L, kRounds1>, fill_normals<L>, fill_normals_across<L>, noise_bytes_across<BoxMullerRow<L>>},
           {kPerBlock2, fill_words<L, kRounds2>, fill_sums<L>, nullptr, noise_bytes_across<NibbleSumRow<L>>}},
          apply<float>,
          apply<Bf16>,
          apply_bytes,
          gradient<float>,
          gradient<Bf16>};
}
