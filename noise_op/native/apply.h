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
  template <class L>
  static typename L::F lanes(const Amplitude& a, typename L::F x) {
    return L::absolute(L::mul(L::splat(a.multiplicative), x));
  }
};
struct AdditiveOnly {
  static float amplitude(const Amplitude& a, float) { return a.additive; }
  template <class L>
  static typename L::F lanes(const Amplitude& a, typename L::F) {
    return L::splat(a.additive);
  }
};
struct Both {
  static float amplitude(const Amplitude& a, float x) {
    const float m = a.multiplicative * x;
    return __builtin_sqrtf(m * m + a.additive * a.additive);
  }
  template <class L>
  static typename L::F lanes(const Amplitude& a, typename L::F x) {
    const typename L::F m = L::mul(L::splat(a.multiplicative), x);
    return L::sqrt(L::add(L::mul(m, m), L::splat(a.additive * a.additive)));
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

// Adding this to |v| < 2^22 leaves round(v), halves to even, in the low bits of the sum.
constexpr float kRounding = 0x1.8p23f;
constexpr uint32_t kRoundingBits = 0x4B400000u;

inline uint8_t rounded_byte(float v, int32_t zero_point) {
  const float rounded = v + kRounding;
  uint32_t bits;
  __builtin_memcpy(&bits, &rounded, sizeof bits);
  return static_cast<uint8_t>(bits - kRoundingBits + static_cast<uint32_t>(zero_point));
}

// Clamped before it is rounded, which is the same as after, since the bounds are whole numbers.
template <class Kind, bool Relu>
void bytes_loop(const QuantizedAmplitude& amplitude, const uint8_t* __restrict x, const float* __restrict z,
                uint8_t* __restrict y, size_t n) {
  const QuantizedAmplitude a = amplitude;
  const auto least = static_cast<float>(-a.y_zero_point);
  const float low = Relu ? 0.0f : least;
  const float high = least + 255.0f;
  for (size_t i = 0; i < n; ++i) {
    const float v = static_cast<float>(static_cast<int32_t>(x[i]) - a.zero_point) * a.gain;
    float steps = v + Kind::amplitude(a, v) * z[i];
    steps = steps > low ? steps : low;  // a NaN too
    steps = steps < high ? steps : high;
    y[i] = rounded_byte(steps, a.y_zero_point);
  }
}

template <class Kind>
void bytes_kind(const QuantizedAmplitude& a, const uint8_t* x, const float* z, uint8_t* y, size_t n) {
  if (a.relu)
    bytes_loop<Kind, true>(a, x, z, y, n);
  else
    bytes_loop<Kind, false>(a, x, z, y, n);
}

inline void apply_bytes(const QuantizedAmplitude& a, const uint8_t* x, const float* z, uint8_t* y, size_t n) {
  if (a.additive == 0.0f)
    bytes_kind<MultiplicativeOnly>(a, x, z, y, n);
  else if (a.multiplicative == 0.0f)
    bytes_kind<AdditiveOnly>(a, x, z, y, n);
  else
    bytes_kind<Both>(a, x, z, y, n);
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
