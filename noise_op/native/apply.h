// Adds drawn noise to a signal, and the derivative of that. Plain loops that each isa_*.cc compiles
// for its own processor; included inside its anonymous namespace.

inline float load(const float* p) { return *p; }
inline void store(float* p, float v) { *p = v; }

inline float load(const Bf16* p) {
  const uint32_t bits = static_cast<uint32_t>(p->bits) << 16;
  float v;
  __builtin_memcpy(&v, &bits, sizeof v);
  return v;
}

// Round to nearest, ties to even; a NaN stays a NaN.
inline void store(Bf16* p, float v) {
  uint32_t bits;
  __builtin_memcpy(&bits, &v, sizeof bits);
  const uint32_t rounded = (bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16;
  const bool is_nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
  p->bits = static_cast<uint16_t>(is_nan ? 0x7FC0u : rounded);
}

struct MultiplicativeOnly {
  static float amplitude(const Amplitude& a, float x) { return __builtin_fabsf(a.multiplicative * x); }
};
struct AdditiveOnly {
  static float amplitude(const Amplitude& a, float) { return a.additive; }
};
struct Both {
  static float amplitude(const Amplitude& a, float x) {
    const float m = a.multiplicative * x;
    return __builtin_sqrtf(m * m + a.additive * a.additive);
  }
};

template <class Kind, bool Relu, class T>
void apply_loop(const Amplitude& a, const T* x, const float* z, T* y, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    const float v = load(x + i);
    const float noisy = v + Kind::amplitude(a, v) * z[i];
    store(y + i, Relu && !(noisy > 0.0f) ? 0.0f : noisy);
  }
}

template <class Kind, class T>
void apply_kind(const Amplitude& a, const T* x, const float* z, T* y, size_t n) {
  if (a.relu)
    apply_loop<Kind, true>(a, x, z, y, n);
  else
    apply_loop<Kind, false>(a, x, z, y, n);
}

template <class T>
void apply(const Amplitude& a, const T* x, const float* z, T* y, size_t n) {
  if (a.additive == 0.0f)
    apply_kind<MultiplicativeOnly>(a, x, z, y, n);
  else if (a.multiplicative == 0.0f)
    apply_kind<AdditiveOnly>(a, x, z, y, n);
  else
    apply_kind<Both>(a, x, z, y, n);
}

// With v = (m x)^2 + s^2 the derivative is 1 + m^2 x z / sqrt(v) = 1 + m^2 x (y - x) / v: what was drawn
// need not be drawn again. Multiplicative noise alone makes that y / x, additive noise alone 1. Where
// v = 0 the noise vanishes and the derivative is taken as 1.
struct MultiplicativeSlope {
  static float slope(const Amplitude&, float x, float y) { return x != 0.0f ? y / x : 1.0f; }
};
struct AdditiveSlope {
  static float slope(const Amplitude&, float, float) { return 1.0f; }
};
struct BothSlope {
  static float slope(const Amplitude& a, float x, float y) {
    const float mm = a.multiplicative * a.multiplicative;
    const float variance = mm * x * x + a.additive * a.additive;
    return variance > 0.0f ? 1.0f + mm * x * (y - x) / variance : 1.0f;
  }
};

// Where a ReLU cut, y is 0 and the derivative too.
template <class Kind, bool Relu, class T>
void gradient_loop(const Amplitude& a, const T* x, const T* y, const T* g, T* gx, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    const float noisy = load(y + i);
    const float slope = Kind::slope(a, load(x + i), noisy);
    store(gx + i, Relu && !(noisy > 0.0f) ? 0.0f : load(g + i) * slope);
  }
}

template <class Kind, class T>
void gradient_kind(const Amplitude& a, const T* x, const T* y, const T* g, T* gx, size_t n) {
  if (a.relu)
    gradient_loop<Kind, true>(a, x, y, g, gx, n);
  else
    gradient_loop<Kind, false>(a, x, y, g, gx, n);
}

template <class T>
void gradient(const Amplitude& a, const T* x, const T* y, const T* g, T* gx, size_t n) {
  if (a.multiplicative == 0.0f)
    gradient_kind<AdditiveSlope>(a, x, y, g, gx, n);
  else if (a.additive == 0.0f)
    gradient_kind<MultiplicativeSlope>(a, x, y, g, gx, n);
  else
    gradient_kind<BothSlope>(a, x, y, g, gx, n);
}
