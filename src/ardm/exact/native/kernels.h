/* The loops that take the time, once for each instruction set: wave.c includes this file with

     NAME(f)              the name of a function for this set
     TARGET               the attribute that lets the compiler use it
     VECTOR               1: matrix products by hand, with AVX2
     MULTIPLY_ADD(s,a,w)  VECTOR only: s + products of neighbouring 16-bit numbers, eight sums of 32 bits

   Every sum here is exact by the certificate of its operation, so the order of its terms does not matter. */

/* --- numbers of 16 and 32 bits ------------------------------------------------------------------------------------ */

TARGET static void NAME(widen)(const int16_t *in, int32_t *out, int64_t n)
{
    for (int64_t i = 0; i < n; i++) out[i] = in[i];
}

TARGET static void NAME(narrow)(const int32_t *in, int16_t *out, int64_t n)
{
    for (int64_t i = 0; i < n; i++) out[i] = (int16_t)in[i];
}

TARGET static void NAME(add)(const int32_t *a, const int32_t *b, int32_t *out, int64_t n)
{
    for (int64_t i = 0; i < n; i++) out[i] = a[i] + b[i];
}

TARGET static void NAME(shift)(const int32_t *a, int32_t *out, int64_t n, int by, int32_t lo, int32_t hi)
{
    for (int64_t i = 0; i < n; i++) {
        int32_t x = a[i] >> by;
        out[i] = x < lo ? lo : x > hi ? hi : x;
    }
}

TARGET static void NAME(gate)(const int32_t *a, const int32_t *b, int32_t *out, int64_t n, int by, int32_t lo, int32_t hi)
{
    for (int64_t i = 0; i < n; i++) {
        int64_t x = (int64_t)a[i] * b[i] >> by;
        out[i] = (int32_t)(x < lo ? lo : x > hi ? hi : x);
    }
}

TARGET static void NAME(carry)(const int32_t *z, const int32_t *n, const int32_t *h, int32_t *out, int64_t count, int by)
{
    for (int64_t i = 0; i < count; i++) {
        uint32_t moved = (uint32_t)z[i] * ((uint32_t)n[i] - (uint32_t)h[i]) + ((uint32_t)1 << (by - 1));
        out[i] = (int32_t)((uint32_t)h[i] + (uint32_t)((int32_t)moved >> by));
    }
}

/* --- matrix products ---------------------------------------------------------------------------------------------- */

#if VECTOR

/* Rows in[0..m) times one panel of 16 outputs: m is a constant where this is called, so all sums stay in registers. */
TARGET static inline __attribute__((always_inline)) void NAME(panel)(
    const Matrix *w, int64_t panel, const int16_t *const *in, void *const *out, int wide, const int m, const int bytes)
{
    const int64_t begin = panel * w->pairs * 32;
    const int16_t *weight = bytes ? NULL : w->weight + begin;
    const int8_t *byte = bytes ? w->byte + begin : NULL;
    const int32_t *bias = w->bias + panel * 16, *shift = w->shift + panel * 16;
    __m256i sum[12];
#pragma GCC unroll 6
    for (int p = 0; p < m; p++) {
        sum[2 * p] = _mm256_loadu_si256((const __m256i *)bias);
        sum[2 * p + 1] = _mm256_loadu_si256((const __m256i *)(bias + 8));
    }
    for (int64_t k = 0; k < w->pairs; k++) {
        __m256i w0, w1;
        if (bytes) {
            w0 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(byte + k * 32)));
            w1 = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(byte + k * 32 + 16)));
        } else {
            w0 = _mm256_loadu_si256((const __m256i *)(weight + k * 32));
            w1 = _mm256_loadu_si256((const __m256i *)(weight + k * 32 + 16));
        }
#pragma GCC unroll 6
        for (int p = 0; p < m; p++) {
            int32_t pair;
            memcpy(&pair, in[p] + 2 * k, sizeof pair);
            __m256i a = _mm256_set1_epi32(pair);
            sum[2 * p] = MULTIPLY_ADD(sum[2 * p], a, w0);
            sum[2 * p + 1] = MULTIPLY_ADD(sum[2 * p + 1], a, w1);
        }
    }
    __m256i s0 = _mm256_loadu_si256((const __m256i *)shift), s1 = _mm256_loadu_si256((const __m256i *)(shift + 8));
    __m256i lo = _mm256_set1_epi32(w->lo), hi = _mm256_set1_epi32(w->hi);
    int64_t left = w->outputs - panel * 16;
#pragma GCC unroll 6
    for (int p = 0; p < m; p++) {
        __m256i a = _mm256_max_epi32(lo, _mm256_min_epi32(hi, _mm256_srav_epi32(sum[2 * p], s0)));
        __m256i b = _mm256_max_epi32(lo, _mm256_min_epi32(hi, _mm256_srav_epi32(sum[2 * p + 1], s1)));
        if (wide) {
            int32_t *to = (int32_t *)out[p] + panel * 16, rest[16];
            if (left < 16) to = rest;
            _mm256_storeu_si256((__m256i *)to, a);
            _mm256_storeu_si256((__m256i *)(to + 8), b);
            if (left < 16) memcpy((int32_t *)out[p] + panel * 16, rest, (size_t)left * 4);
        } else {
            int16_t *to = (int16_t *)out[p] + panel * 16, rest[16];
            if (left < 16) to = rest;
            _mm256_storeu_si256((__m256i *)to, _mm256_permute4x64_epi64(_mm256_packs_epi32(a, b), 0xd8));
            if (left < 16) memcpy((int16_t *)out[p] + panel * 16, rest, (size_t)left * 2);
        }
    }
}

/* Some rows, as many as a panel takes at once. */
TARGET static inline __attribute__((always_inline)) void NAME(rows)(
    const Matrix *w, int64_t panel, const int16_t *const *in, void *const *out, int wide, int m, const int bytes)
{
    switch (m) {
    case 1: NAME(panel)(w, panel, in, out, wide, 1, bytes); break;
    case 2: NAME(panel)(w, panel, in, out, wide, 2, bytes); break;
    case 3: NAME(panel)(w, panel, in, out, wide, 3, bytes); break;
    case 4: NAME(panel)(w, panel, in, out, wide, 4, bytes); break;
    case 5: NAME(panel)(w, panel, in, out, wide, 5, bytes); break;
    default: NAME(panel)(w, panel, in, out, wide, 6, bytes); break;
    }
}

TARGET static void NAME(product)(const Matrix *w, const int16_t *const *in, void *const *out, int wide, int64_t n)
{
    for (int64_t panel = 0; panel < w->panels; panel++) {
        for (int64_t a = 0; a < n;) {
            int64_t left = n - a; /* 7 rows are 4 + 3, not 6 + 1: few rows wait for their weights */
            int m = left == 7 ? 4 : left == 8 ? 4 : left < 6 ? (int)left : 6;
            if (w->byte) NAME(rows)(w, panel, in + a, out + a, wide, m, 1);
            else NAME(rows)(w, panel, in + a, out + a, wide, m, 0);
            a += m;
        }
    }
}

#else

/* One row times one output: a form that compilers know how to make vectors of. */
TARGET static inline int32_t NAME(dot)(const int16_t *a, const int16_t *b, int64_t n)
{
    int32_t sum = 0;
    for (int64_t k = 0; k < n; k++) sum += a[k] * b[k];
    return sum;
}

TARGET static void NAME(product)(const Matrix *w, const int16_t *const *in, void *const *out, int wide, int64_t n)
{
    for (int64_t o = 0; o < w->outputs; o++)
        for (int64_t row = 0; row < n; row++) {
            int32_t x = (w->bias[o] + NAME(dot)(in[row], w->weight + o * w->pairs * 2, w->pairs * 2)) >> w->shift[o];
            x = x < w->lo ? w->lo : x > w->hi ? w->hi : x;
            if (wide) ((int32_t *)out[row])[o] = x;
            else ((int16_t *)out[row])[o] = (int16_t)x;
        }
}

#endif

static const Kernels NAME(kernels) = {VECTOR, NAME(widen), NAME(narrow), NAME(add), NAME(shift), NAME(gate), NAME(carry), NAME(product)};
