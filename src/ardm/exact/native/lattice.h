/* Banks of least-squares lattices, as `ardm.exact.operations.lattice`.  A row remembers, for each rate and each m: F, B, k,
   q, b, g; and then its deviations.  All sums stay below 2^62. */

enum { ERROR_BITS = 24, COEFFICIENT = 20, CONVERSION = 16, DEVIATION = 8, DENOMINATOR = 14, FIRST = 6, LEAST = 64 };
enum { MAX_ORDER = 64, MAX_RATE = 10, STEEPEST = 1 << 24, MAX_ERROR = 1 << ERROR_BITS };

typedef struct {
    int64_t order, fraction, energy, limit, rates, orders, paces;
    const int64_t *rate, *read, *pace;
} Lattice;

static int64_t lattice_columns(const Lattice *a) { return a->rates * a->orders * (1 + a->paces); }

static int64_t lattice_state(const Lattice *a) { return a->rates * (6 * a->order + a->paces * a->orders); }

static int lattice_fits(const Lattice *a)
{
    int good = a->order >= 1 && a->order <= MAX_ORDER && a->fraction >= 0 && a->fraction <= 16 && a->energy >= 0 &&
               a->energy <= (int64_t)1 << 40 && a->limit >= 1 && a->limit < 1 << (ERROR_BITS - 1) && a->rates >= 1 &&
               a->rates <= MAX_ORDER && a->orders >= 1 && a->orders <= MAX_ORDER && a->paces >= 1 && a->paces <= MAX_ORDER;
    for (int64_t k = 0; good && k < a->rates; k++) good = a->rate[k] >= 1 && a->rate[k] <= MAX_RATE;
    for (int64_t k = 0; good && k < a->orders; k++) good = a->read[k] >= 1 && a->read[k] <= a->order;
    for (int64_t k = 0; good && k < a->paces; k++) good = a->pace[k] >= 0 && a->pace[k] <= 12;
    return good;
}

static int64_t held(int64_t x, int64_t most) { return x < -most ? -most : x > most ? most : x; }

static int64_t scaled(int64_t coefficient, int64_t x) /* their product, rounded */
{
    return (coefficient * x + ((int64_t)1 << (COEFFICIENT - 1))) >> COEFFICIENT;
}

static int64_t share(int64_t product, int64_t energy)
{
    int64_t by = (energy >> DENOMINATOR) + 1, a = product * ((int64_t)1 << (COEFFICIENT - DENOMINATOR)) + (by >> 1);
    return a / by - (a % by < 0);
}

static void lattice_begin(const Lattice *a, int64_t *state)
{
    int64_t M = a->order;
    for (int64_t r = 0; r < a->rates; r++, state += 6 * M)
        for (int64_t m = 0; m < M; m++) {
            state[m] = state[M + m] = a->energy;
            state[2 * M + m] = state[3 * M + m] = state[4 * M + m] = 0;
            state[5 * M + m] = 1 << CONVERSION;
        }
    for (int64_t k = 0; k < a->paces * a->rates * a->orders; k++) state[k] = (int64_t)1 << (a->fraction + FIRST + DEVIATION);
}

/* The predictions of orders 1 .. M by one lattice. */
static void lattice_sums(int64_t M, const int64_t *state, int64_t *sums)
{
    int64_t p = 0;
    for (int64_t m = 0; m < M; m++) sums[m] = p -= scaled(state[2 * M + m], state[4 * M + m]);
}

static void lattice_read(const Lattice *a, const int64_t *state, int32_t *out)
{
    int64_t sums[MAX_ORDER];
    for (int64_t r = 0; r < a->rates; r++, state += 6 * a->order) {
        lattice_sums(a->order, state, sums);
        for (int64_t j = 0; j < a->orders; j++) *out++ = (int32_t)held(sums[a->read[j] - 1], a->limit);
    }
    for (int64_t k = 0; k < a->paces * a->rates * a->orders; k++) *out++ = (int32_t)(state[k] >> DEVIATION);
}

/* One lattice learns from y, which it predicted by `sums`. */
static void lattice_adapt(int64_t M, int64_t rate, int64_t energy, int64_t *state, const int64_t *sums, int64_t y)
{
    int64_t *F = state, *B = F + M, *k = B + M, *q = k + M, *b = q + M, *g = b + M, e = held(y, MAX_ERROR);
    int64_t behind = y, factor = 1 << CONVERSION;
    for (int64_t m = 0; m < M; m++) {
        int64_t after = held(y - sums[m], MAX_ERROR), front = g[m] * e >> CONVERSION, back = g[m] * b[m] >> CONVERSION;
        F[m] += front * e - (F[m] >> rate) + (energy >> rate);
        int64_t next = held(b[m] + scaled(q[m], e), MAX_ERROR);
        k[m] = held(k[m] - share(back * after, B[m]), STEEPEST);
        q[m] = held(q[m] - share(front * next, F[m]), STEEPEST);
        b[m] = behind, g[m] = factor;
        int64_t part = factor * behind >> CONVERSION;
        B[m] += part * behind - (B[m] >> rate) + (energy >> rate);
        factor -= part * part / ((B[m] >> CONVERSION) + 1);
        if (factor < LEAST) factor = LEAST;
        behind = next, e = after;
    }
}

static void lattice_absorb(const Lattice *a, int64_t *state, int64_t value)
{
    int64_t y = value * ((int64_t)1 << a->fraction), sums[MAX_ORDER], columns = a->rates * a->orders;
    int64_t *apart = state + 6 * a->rates * a->order;
    for (int64_t r = 0; r < a->rates; r++, state += 6 * a->order) {
        lattice_sums(a->order, state, sums);
        for (int64_t j = 0; j < a->orders; j++) {
            int64_t off = y - held(sums[a->read[j] - 1], a->limit);
            off = (off < 0 ? -off : off) << DEVIATION;
            for (int64_t p = 0; p < a->paces; p++) {
                int64_t *d = apart + p * columns + r * a->orders + j;
                *d += (off - *d) >> a->pace[p];
            }
        }
        lattice_adapt(a->order, a->rate[r], a->energy, state, sums, y);
    }
}

/* The columns before each of `length` more samples of some rows: values (rows, length) -> out (rows, length, columns).
   settings: order, fraction, energy, limit, rates, orders, paces, and then these lists.  0 if they do not fit. */
int64_t ardm_lattice(const int64_t *settings, int64_t *state, const int64_t *values, int64_t rows, int64_t length, int32_t *out)
{
    Lattice a = {settings[0], settings[1], settings[2], settings[3], settings[4], settings[5], settings[6], NULL, NULL, NULL};
    a.rate = settings + 7, a.read = a.rate + a.rates, a.pace = a.read + a.orders;
    if (!lattice_fits(&a)) return 0;
    for (int64_t r = 0; r < rows; r++, state += lattice_state(&a))
        for (int64_t t = 0; t < length; t++, values++, out += lattice_columns(&a)) {
            if (*values * ((int64_t)1 << a.fraction) < -a.limit || *values * ((int64_t)1 << a.fraction) > a.limit) return 0;
            lattice_read(&a, state, out);
            lattice_absorb(&a, state, *values);
        }
    return 1;
}
