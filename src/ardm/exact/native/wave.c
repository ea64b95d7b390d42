/* Integer networks along wavefronts: the program of `ardm.exact.program`, the walk of an item and its entropy coder.

   A *net* is a program that Python has certified and written as a list of numbers (`program.py`); it is read once,
   checked again, and never changes, so that threads may share it.  A *walk* is one pass over items (n, C, H, W): it owns
   the state of the items, what the network remembers of places behind it, and all scratch memory.  Places are computed
   front by front:

     wave     a front is all places of one key x + slope y, in every item; a decoder knows all smaller keys
     raster   a front is a run of places of an item, row by row; for encoders, which know everything

   Both compute the same integers.  A value is stored in 16 bits where its certificate allows it, else in 32; programs
   that need more are refused.  No number is a float. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GNUC__)
#define WITH_AVX2 1
#include <immintrin.h>
#endif

enum { WINDOW = 1, NEARBY, CONTRAST, LINEAR, SHIFT, ADD, LESS, CONCAT, TAPS, AT, EARLIER, PICK, MIXTURE,
       VALUES, CARRY, GATE, TABLE, HASH, EMBED, RATIO, LOG, LATTICE, LAST = LATTICE };
enum { PLACES = 1, ROWS = 2 };               /* kinds of values */
enum { POOL, KEPT, RING };                   /* where a value lies: until its last use, for a front, for later fronts */
enum { MAX_INPUTS = 16, MAX_PLANES = 1 << 14, MAX_VALUES = 1 << 12, MAX_COMPONENTS = 64, MAX_CLASSES = 256, CHUNK = 96,
       MANY = 1 << 16 };
enum { PRECISION = 24, GRID_END = 767, REACH = 24, FINE = 12, REST = 6, UNITY = 30, WEIGHT = 14, RADIX = 16 };

/* Which source this is, so that a library left over from another one is not used. */
int64_t ardm_source(void) { return ARDM_SOURCE; }

#include "lattice.h"

/* --- the net ------------------------------------------------------------------------------------------------------ */

typedef struct {
    int64_t outputs, panels, pairs;          /* 16 outputs a panel, two inputs a pair */
    int16_t *weight;                         /* (panels, pairs, 16, 2), or (16 panels, 2 pairs) */
    int8_t *byte;                            /* the same instead, of a large matrix of small weights: memory is what waits */
    int32_t *bias, *shift, lo, hi;           /* padded to whole panels */
} Matrix;

typedef struct {
    int panels;                              /* whether weights lie in panels; else output after output */
    void (*widen)(const int16_t *, int32_t *, int64_t);
    void (*narrow)(const int32_t *, int16_t *, int64_t);
    void (*add)(const int32_t *, const int32_t *, int32_t *, int64_t);
    void (*shift)(const int32_t *, int32_t *, int64_t, int, int32_t, int32_t);
    void (*gate)(const int32_t *, const int32_t *, int32_t *, int64_t, int, int32_t, int32_t);
    void (*carry)(const int32_t *, const int32_t *, const int32_t *, int32_t *, int64_t, int);
    void (*product)(const Matrix *, const int16_t *const *, void *const *, int, int64_t);
} Kernels;

#define NAME(f) f##_plain
#define TARGET
#define VECTOR 0
#include "kernels.h"
#undef NAME
#undef TARGET
#undef VECTOR

#ifdef WITH_AVX2
#define NAME(f) f##_avx2
#define TARGET __attribute__((target("avx2")))
#define VECTOR 1
#define MULTIPLY_ADD(s, a, w) _mm256_add_epi32(s, _mm256_madd_epi16(a, w))
#include "kernels.h"
#endif

typedef struct {
    int64_t kind, planes, wide;              /* wide: 32 bits a number */
    int64_t bytes, place, offset;            /* of a row; where it lies; bytes before it in a row of its store */
} Value;

typedef struct {
    int64_t length;
    const int64_t *data;
} Tensor;

typedef struct {
    int64_t code, out, inputs, integers, tensors;
    const int64_t *in, *n;
    Tensor t[MAX_INPUTS];
    int64_t set;                             /* TAPS, CARRY: which set of cells */
    Lattice lattice;                         /* LATTICE: its settings */
    int64_t first_state;                     /* and where its state lies in that of a row of an item */
    Matrix *matrix;                          /* LINEAR in 16 bits: one, or one for each channel */
} Op;

typedef struct {
    int64_t channels, classes, slope, values, ops, first_rows, sets;
    Value *value;
    Op *op;
    Tensor *set;                             /* different sets of cells of TAPS */
    int64_t pool, kept, ring, widest;        /* bytes of a row of each store; the most planes of a value */
    int64_t columns;                         /* of the first input of the head */
    int64_t remembered;                      /* numbers that the lattices of a row of an item remember */
    int64_t head[5], stages, radix[8];       /* of a mixture: components, fraction, bits, rise, limit; of a symbol */
    Tensor inverse, places, exponential;
    int32_t *sigmoid;
    int64_t knots;
    int64_t *text;                           /* the copy of the description that tensors point into */
    const Kernels *kernels;
} Net;

typedef struct {
    const int64_t *at, *end;
    int good;
} Reader;

static int64_t next(Reader *r, int64_t least, int64_t most)
{
    if (!r->good || r->at == r->end || *r->at < least || *r->at > most) return r->good = 0, least;
    return *r->at++;
}

static const int64_t *block(Reader *r, int64_t count)
{
    if (!r->good || count < 0 || count > r->end - r->at) return r->good = 0, NULL;
    const int64_t *found = r->at;
    r->at += count;
    return found;
}

static Tensor tensor(Reader *r)
{
    Tensor t;
    t.length = next(r, 0, INT64_MAX);
    t.data = block(r, t.length);
    return t;
}

static int within(Tensor t, int64_t lo, int64_t hi)
{
    for (int64_t i = 0; i < t.length; i++)
        if (t.data[i] < lo || t.data[i] > hi) return 0;
    return 1;
}

/* Pack the weights (inputs, outputs), bias and shift of a matrix; 0 if there is no memory. */
static int pack(Matrix *m, const Op *op, int64_t which, int panels)
{
    int64_t I = op->n[1], O = op->n[2];
    const int64_t *w = op->t[0].data + which * I * O;
    m->outputs = O, m->panels = (O + 15) / 16, m->pairs = (I + 1) / 2;
    m->lo = (int32_t)op->n[3], m->hi = (int32_t)op->n[4];
    int bytes = panels && I * O >= MANY && within((Tensor){I * O, w}, INT8_MIN, INT8_MAX);
    m->weight = calloc(bytes ? 1 : (size_t)(m->panels * m->pairs * 32), sizeof *m->weight);
    m->byte = bytes ? calloc((size_t)(m->panels * m->pairs * 32), 1) : NULL;
    m->bias = calloc((size_t)(m->panels * 16), sizeof *m->bias);
    m->shift = calloc((size_t)(m->panels * 16), sizeof *m->shift);
    if (!m->weight || !m->bias || !m->shift || (bytes && !m->byte)) return 0;
    for (int64_t i = 0; i < I; i++)
        for (int64_t o = 0; o < O; o++) {
            int64_t at = panels ? ((o / 16 * m->pairs + i / 2) * 16 + o % 16) * 2 + i % 2 : o * m->pairs * 2 + i;
            if (bytes) m->byte[at] = (int8_t)w[i * O + o];
            else m->weight[at] = (int16_t)w[i * O + o];
        }
    for (int64_t o = 0; o < O; o++) {
        int64_t by = op->t[2].data[which * O + o];
        m->bias[o] = (int32_t)op->t[1].data[which * O + o];
        m->shift[o] = (int32_t)(by < 31 ? by : 31);
    }
    return 1;
}

static Lattice lattice_of(const Net *net, const Op *op)
{
    const int64_t *n = op->n, limit = n[1] < 0 || n[1] > 16 ? 0 : (net->classes - 1) * ((int64_t)1 << n[1]);
    return (Lattice){n[0], n[1], n[2], limit, op->t[0].length, op->t[1].length, op->t[2].length,
                     op->t[0].data, op->t[1].data, op->t[2].data};
}

/* Whether an operation fits its values: every index that it will use lies in bounds. */
static int fits(const Net *net, const Op *op)
{
    const Value *v = net->value, *out = v + op->out, *a = op->inputs ? v + op->in[0] : NULL;
    const Value *b = op->inputs > 1 ? v + op->in[1] : NULL;
    const int64_t *n = op->n, C = net->channels, reach = 1 << 16;
    int rows = out->kind == ROWS, same = 1;
    for (int64_t i = 0; i < op->inputs; i++) same = same && v[op->in[i]].kind == out->kind;
    switch (op->code) {
    case WINDOW:
        return !rows && op->inputs == 0 && op->tensors == 2 && op->t[1].length % 2 == 0 &&
               within(op->t[0], 0, 2 * C - 1) && within(op->t[1], -reach, reach) &&
               out->planes == op->t[0].length * (op->t[1].length / 2);
    case NEARBY:
        if (op->inputs < 1 || op->tensors != op->inputs || op->integers != 2 + op->inputs || out->planes != C) return 0;
        for (int64_t i = 0; i < op->inputs; i++)
            if (v[op->in[i]].planes != 2 * C * op->t[i].length || n[2 + i] < 0 || n[2 + i] > 40) return 0;
        return same && n[1] >= 0 && n[1] <= 16;
    case CONTRAST:
        return same && op->inputs == 2 && op->integers == 4 && b->planes == C && a->planes % (2 * C) == 0 &&
               a->planes == out->planes && n[1] >= 0 && n[1] <= 16 && n[2] >= 0 && n[2] <= 40 && n[3] >= 0 && n[3] <= 16;
    case LINEAR:
        return same && op->inputs == 1 && op->integers == 6 && op->tensors == 3 && (n[0] == 1 || (n[0] == C && rows)) &&
               n[1] == a->planes && n[2] == out->planes && op->t[0].length == n[0] * n[1] * n[2] &&
               op->t[1].length == n[0] * n[2] && op->t[2].length == n[0] * n[2] && within(op->t[2], 0, 40) &&
               within((Tensor){2, n + 3}, INT32_MIN, INT32_MAX) &&
               (!n[5] || (!a->wide && within(op->t[0], INT16_MIN, INT16_MAX) && within(op->t[1], INT32_MIN, INT32_MAX)));
    case SHIFT:
        return same && op->inputs == 1 && op->integers == 3 && n[0] >= 0 && n[0] <= 31 && a->planes == out->planes &&
               within((Tensor){2, n + 1}, INT32_MIN, INT32_MAX);
    case ADD:
        return same && op->inputs == 2 && a->planes == b->planes && a->planes == out->planes;
    case LESS:
        return same && op->inputs == 2 && b->planes == 1 && a->planes == out->planes;
    case CONCAT: {
        int64_t planes = 0;
        for (int64_t i = 0; i < op->inputs; i++) planes += v[op->in[i]].planes;
        return same && op->inputs > 0 && planes == out->planes;
    }
    case TAPS:
        return same && !rows && op->inputs == 1 && op->tensors == 1 && op->t[0].length % 2 == 0 &&
               within(op->t[0], -reach, reach) && out->planes == a->planes * (op->t[0].length / 2) &&
               a->wide == out->wide;
    case AT:
        return rows && op->inputs == 1 && a->kind == PLACES && a->planes == out->planes && a->wide == out->wide;
    case EARLIER:
        return rows && op->inputs == 1 && op->integers == 3 && a->kind == PLACES && a->planes == C && out->planes == C &&
               n[0] >= 0 && n[0] <= 16 && n[1] >= 0 && n[1] <= 40;
    case PICK:
        return same && rows && op->inputs == 1 && a->planes == C && out->planes == 1;
    case RATIO:
        return same && op->inputs == 2 && op->integers == 3 && b->planes == 1 && a->planes == out->planes && n[0] >= 0 &&
               n[0] <= 16 && within((Tensor){2, n + 1}, INT32_MIN, INT32_MAX);
    case LOG:
        return same && op->inputs == 1 && op->integers == 2 && op->tensors == 1 && a->planes == out->planes &&
               op->t[0].length == 256 && within(op->t[0], 0, INT32_MAX) && within((Tensor){1, n}, 0, INT32_MAX) &&
               within((Tensor){1, n + 1}, 0, 40);
    case GATE:
        return same && op->inputs == 2 && op->integers == 3 && a->planes == b->planes && a->planes == out->planes &&
               n[0] >= 0 && n[0] <= 52 && within((Tensor){2, n + 1}, INT32_MIN, INT32_MAX);
    case LATTICE: {
        if (rows || C != 1 || op->inputs || op->integers != 3 || op->tensors != 3) return 0;
        Lattice l = lattice_of(net, op);
        return lattice_fits(&l) && lattice_columns(&l) == out->planes;
    }
    case MIXTURE:
        return same && rows && op->inputs == 2 && op->integers == 5 && op->tensors == 2 && n[0] >= 1 &&
               n[0] <= MAX_COMPONENTS && a->planes == 3 * n[0] && b->planes == 1 && op->t[1].length == n[0] &&
               op->t[0].length % 2 == 1 && n[1] >= 0 && n[1] <= 16 && n[2] >= 0 && n[2] <= 48 && n[1] + n[2] >= FINE &&
               n[3] >= 0 && n[3] <= 16 && n[4] >= 1 && n[4] <= 1 << 30;
    case VALUES:
        return same && rows && op->inputs == 1 && a->planes == net->classes && net->classes <= MAX_CLASSES;
    case CARRY:
        return same && !rows && op->inputs == 2 && op->integers == 1 && a->planes == b->planes &&
               a->planes == out->planes && n[0] >= 1 && n[0] <= 30;
    case TABLE:
        return same && op->inputs == 1 && op->integers == 1 && op->tensors == 1 && op->t[0].length > 0 &&
               a->planes == out->planes && within(op->t[0], INT32_MIN, INT32_MAX) && n[0] >= INT32_MIN && n[0] <= INT32_MAX;
    case HASH:
        return same && op->inputs == 1 && op->integers == 2 && op->tensors == 1 && n[0] >= 1 && n[0] <= 20 &&
               n[1] >= 1 && n[1] <= reach && op->t[0].length == out->planes * n[1] && within(op->t[0], -1, a->planes - 1);
    case EMBED:
        return same && op->inputs == 1 && op->integers == 3 && op->tensors == 1 && n[0] >= 1 && n[0] <= 1 << 24 &&
               n[1] >= 1 && n[1] <= MAX_PLANES && (n[2] == 1 || n[2] == 2 || n[2] == 4) &&
               out->planes == a->planes * n[1] && op->t[0].length == (n[0] * n[1] * n[2] + 7) / 8;
    }
    return 0;
}

static const int64_t BEFORE[2] = {0, -1};    /* the cell that CARRY reads */

/* The cells of other places that an operation reads; none for most. */
static Tensor cells_of(const Op *op)
{
    return op->code == WINDOW ? op->t[1] : op->code == TAPS ? op->t[0] : (Tensor){op->code == CARRY ? 2 : 0, BEFORE};
}

static int same_cells(Tensor a, Tensor b)
{
    return a.length == b.length && !memcmp(a.data, b.data, (size_t)a.length * sizeof *a.data);
}

/* Rings for values that are read at other places; the others share a pool, or last for a front if rows read them. */
static int arrange(Net *net)
{
    int64_t *last = calloc((size_t)net->values, sizeof *last), *size = calloc((size_t)net->values, sizeof *size);
    int64_t *until = calloc((size_t)net->values, sizeof *until), *home = calloc((size_t)net->values, sizeof *home);
    int64_t homes = 0, good = last && size && until && home;
    for (int64_t i = 0; good && i < net->ops; i++) {
        const Op *op = net->op + i;
        for (int64_t k = 0; k < op->inputs; k++) {
            Value *v = net->value + op->in[k];
            last[op->in[k]] = i;
            if (op->code == CARRY) net->value[op->out].place = RING;
            if (op->code == TAPS) v->place = RING;
            else if (v->place == POOL && v->kind == PLACES && net->value[op->out].kind == ROWS) v->place = KEPT;
        }
    }
    for (int64_t i = 0; good && i < net->ops; i++) {
        Value *v = net->value + net->op[i].out;
        if (v->place == RING) v->offset = net->ring, net->ring += v->bytes;
        if (v->place == KEPT) v->offset = net->kept, net->kept += v->bytes;
        if (v->place != POOL) continue;
        int64_t best = -1; /* the smallest free home that is large enough, or else the largest */
        for (int64_t h = 0; h < homes; h++) {
            if (until[h] >= i) continue;
            int better = best < 0 || (size[h] >= v->bytes ? size[best] < v->bytes || size[h] < size[best]
                                                          : size[best] < v->bytes && size[h] > size[best]);
            if (better) best = h;
        }
        if (best < 0) best = homes++;
        if (size[best] < v->bytes) size[best] = v->bytes;
        until[best] = last[net->op[i].out] > i ? last[net->op[i].out] : i;
        home[net->op[i].out] = best;
    }
    for (int64_t i = 0; good && i < net->ops; i++) {
        Value *v = net->value + net->op[i].out;
        if (v->place != POOL) continue;
        v->offset = 0;
        for (int64_t h = 0; h < home[net->op[i].out]; h++) v->offset += size[h];
    }
    for (int64_t h = 0; h < homes; h++) net->pool += size[h];
    free(last), free(size), free(until), free(home);
    return (int)good;
}

void ardm_free(Net *net)
{
    if (!net) return;
    for (int64_t i = 0; net->op && i < net->ops; i++) {
        Matrix *m = net->op[i].matrix;
        for (int64_t c = 0; m && c < net->op[i].n[0]; c++) free(m[c].weight), free(m[c].byte), free(m[c].bias), free(m[c].shift);
        free(m);
    }
    free(net->value), free(net->op), free(net->set), free(net->sigmoid), free(net->text), free(net);
}

/* One operation of the description; `made` marks the values that exist. */
static int read_op(Net *net, Reader *r, int64_t i, char *made)
{
    Op *op = net->op + i;
    op->code = next(r, WINDOW, LAST);
    op->out = next(r, 0, net->values - 1);
    op->inputs = next(r, 0, MAX_INPUTS);
    op->in = block(r, op->inputs);
    for (int64_t k = 0; r->good && k < op->inputs; k++)
        if (op->in[k] < 0 || op->in[k] >= net->values || !made[op->in[k]]) return 0;
    op->integers = next(r, 0, 64);
    op->n = block(r, op->integers);
    op->tensors = next(r, 0, MAX_INPUTS);
    for (int64_t k = 0; k < op->tensors; k++) op->t[k] = tensor(r);
    if (!r->good || made[op->out] || !fits(net, op)) return 0;
    made[op->out] = 1;
    if (op->code == MIXTURE || op->code == VALUES) {
        net->columns = net->value[op->in[0]].planes;
        if (op->code == VALUES) return i == net->ops - 1;
        memcpy(net->head, op->n, sizeof net->head);
        net->inverse = op->t[0], net->places = op->t[1];
        return i == net->ops - 1;
    }
    int rows = net->value[op->out].kind == ROWS;
    if (rows && net->first_rows > i) net->first_rows = i;
    if (!rows && net->first_rows < i) return 0; /* places come first */
    const Tensor cells = cells_of(op);
    if (op->code == WINDOW || op->code == TAPS) { /* what a front reads is known before it; itself only by TAPS */
        for (int64_t k = 0; k < cells.length; k += 2) {
            int64_t dy = cells.data[k], dx = cells.data[k + 1], key = dx + net->slope * dy;
            if (dy > 0 || key > 0 || (key == 0 && (op->code == WINDOW || dx || dy))) return 0;
        }
    }
    if (op->code == TAPS || op->code == CARRY) {
        while (op->set < net->sets && !same_cells(net->set[op->set], cells)) op->set++;
        if (op->set == net->sets) net->set[net->sets++] = cells;
    }
    if (op->code == LATTICE) {
        op->lattice = lattice_of(net, op), op->first_state = net->remembered;
        net->remembered += lattice_state(&op->lattice);
    }
    if (op->code == LINEAR && op->n[5]) {
        op->matrix = calloc((size_t)op->n[0], sizeof *op->matrix);
        for (int64_t c = 0; c < op->n[0]; c++)
            if (!op->matrix || !pack(op->matrix + c, op, c, net->kernels->panels)) return 0;
    }
    return 1;
}

/* The net of a description, or NULL if it is malformed or there is no memory.  plain: without special instructions. */
Net *ardm_build(const int64_t *text, int64_t length, int plain)
{
    Net *net = calloc(1, sizeof *net);
    if (!net) return NULL;
    net->kernels = &kernels_plain;
#ifdef WITH_AVX2
    if (!plain && __builtin_cpu_supports("avx2")) net->kernels = &kernels_avx2;
#endif
    (void)plain;
    net->text = malloc((size_t)(length > 0 ? length : 1) * sizeof *text);
    char *made = calloc(MAX_VALUES, 1);
    Reader r = {net->text, net->text ? net->text + length : NULL, net->text && made};
    if (r.good) memcpy(net->text, text, (size_t)length * sizeof *text);
    net->channels = next(&r, 1, 1 << 12), net->classes = next(&r, 2, 1 << 16), net->slope = next(&r, 1, 1 << 10);
    net->values = next(&r, 1, MAX_VALUES), net->ops = next(&r, 1, MAX_VALUES);
    net->first_rows = net->ops;
    net->exponential = tensor(&r);
    Tensor sigmoid = tensor(&r);
    net->knots = sigmoid.length;
    r.good = r.good && net->exponential.length == GRID_END + 1 && net->exponential.data[0] > 0 && net->knots == 2 * REACH * (1 << (FINE - REST)) + 1;
    r.good = r.good && within(net->exponential, 0, 1 << 30) && within(sigmoid, 0, (1 << UNITY) - 1);
    net->value = calloc((size_t)net->values, sizeof *net->value), net->op = calloc((size_t)net->ops, sizeof *net->op);
    net->set = calloc((size_t)net->ops, sizeof *net->set);
    net->sigmoid = malloc((size_t)(net->knots + 1) * sizeof *net->sigmoid);
    r.good = r.good && net->value && net->op && net->set && net->sigmoid;
    for (int64_t i = 0; r.good && i < net->knots; i++) net->sigmoid[i] = (int32_t)sigmoid.data[i];
    for (int64_t i = 0; r.good && i < net->values; i++) {
        Value *v = net->value + i;
        v->kind = next(&r, PLACES, ROWS), v->planes = next(&r, 1, MAX_PLANES), v->wide = next(&r, 0, 1);
        v->bytes = (v->planes + 15) / 16 * 16 * (v->wide ? 4 : 2);
        if (v->planes > net->widest) net->widest = v->planes;
    }
    for (int64_t i = 0; r.good && i < net->ops; i++) r.good = read_op(net, &r, i, made);
    r.good = r.good && r.at == r.end && net->columns && arrange(net);
    if (net->columns && !net->head[0]) net->radix[0] = net->classes, net->stages = 1; /* a softmax has one stage */
    else for (int64_t left = net->classes; left > 1; left = (left + RADIX - 1) / RADIX) /* the first stage has the fewest */
        memmove(net->radix + 1, net->radix, 7 * sizeof *net->radix), net->radix[0] = left < RADIX ? left : RADIX, net->stages++;
    free(made);
    if (r.good) return net;
    ardm_free(net);
    return NULL;
}

static int64_t clip(int64_t x, int64_t lo, int64_t hi) { return x < lo ? lo : x > hi ? hi : x; }

/* --- the walk ----------------------------------------------------------------------------------------------------- */

typedef struct {
    const Net *net;
    int64_t items, height, width, first, last, raster; /* channels first .. last are coded; first = last: one plane */
    int64_t *length;                                   /* of each item of one row, at most the width */
    int64_t keys, chunk, capacity, slots, behind;      /* fronts; their largest size; places remembered */
    int32_t *state;                                    /* (items, H, W, 2 C): values 2 v − (K − 1), and what is known */
    char *pool, *kept, *ring, *zero;
    int64_t *memory, *absorbed;                        /* of the lattices of each row of each item; samples learnt from */
    char **base;                                       /* of each value */
    int64_t *item, *y, *x, *slot;                      /* the places of the front */
    int64_t sets, **near;                              /* of each set of cells: where a neighbour lies, or −1 */
    int64_t *start;                                    /* (keys + 1): places of an item before each key */
    int64_t now, count, raw;                           /* the front: its number, its size, the next place in raster */
    int32_t *read[MAX_INPUTS], *made;                  /* rows in 32 bits */
    const int16_t **in;
    void **out;
    int32_t *weight, *mean;                            /* (capacity, M): the mixtures of a step */
    int64_t *inverse, *low, *high, *prefix;            /* and (capacity): F at the ends of a block, symbols so far */
    int unsettled;                                     /* a window read a place of an earlier key that is not known */
} Walk;

void ardm_walk_free(Walk *w)
{
    if (!w) return;
    for (int64_t s = 0; w->near && s < w->sets; s++) free(w->near[s]); /* its net may be gone */
    for (int k = 0; k < MAX_INPUTS; k++) free(w->read[k]);
    free(w->state), free(w->pool), free(w->kept), free(w->ring), free(w->zero), free(w->base);
    free(w->item), free(w->y), free(w->x), free(w->slot), free(w->near), free(w->start), free(w->made);
    free(w->memory), free(w->absorbed), free((void *)w->in), free(w->out), free(w->weight), free(w->mean), free(w->inverse);
    free(w->low), free(w->high), free(w->prefix), free(w->length), free(w);
}

static int64_t key_top(const Walk *w, int64_t key)
{
    int64_t over = key - w->width + 1;
    return over <= 0 ? 0 : (over + w->net->slope - 1) / w->net->slope;
}

static int64_t key_count(const Walk *w, int64_t key)
{
    int64_t bottom = key / w->net->slope;
    if (bottom >= w->height) bottom = w->height - 1;
    return bottom < key_top(w, key) ? 0 : bottom - key_top(w, key) + 1;
}

/* How far back a front reads: in keys, or in places of a raster. */
static int64_t reach_behind(const Walk *w)
{
    int64_t most = 0;
    for (int64_t s = 0; s < w->net->sets; s++)
        for (int64_t k = 0; k < w->net->set[s].length; k += 2) {
            int64_t dy = w->net->set[s].data[k], dx = w->net->set[s].data[k + 1];
            int64_t back = -dx - dy * (w->raster ? w->width : w->net->slope);
            if (back > most) most = back;
        }
    return most;
}

/* A walk over items of one shape, all unknown; NULL if there is no memory.  plane: the only channel coded, or −1.
   lengths: how much of each item of one row exists, for decoders; NULL: all of every item. */
Walk *ardm_walk(const Net *net, int64_t items, int64_t height, int64_t width, int64_t plane, int64_t raster,
                const int64_t *lengths)
{
    Walk *w = items > 0 && height > 0 && width > 0 ? calloc(1, sizeof *w) : NULL;
    if (!w) return NULL;
    int64_t C = net->channels, M = net->head[0] + 1;
    w->net = net, w->sets = net->sets, w->items = items, w->height = height, w->width = width, w->raster = raster;
    w->first = plane < 0 ? 0 : plane, w->last = plane < 0 ? C - 1 : plane, w->now = -1;
    w->keys = width + net->slope * (height - 1);
    w->start = calloc((size_t)(w->keys + 1), sizeof *w->start);
    w->length = calloc((size_t)items, sizeof *w->length);
    for (int64_t b = 0; w->length && b < items; b++)
        w->length[b] = lengths && height == 1 ? clip(lengths[b], 0, width) : width;
    int64_t longest = 0;
    for (int64_t k = 0; w->start && k < w->keys; k++) {
        int64_t n = key_count(w, k);
        w->start[k + 1] = w->start[k] + n;
        if (n > longest) longest = n;
    }
    w->capacity = w->raster ? (height * width < CHUNK ? height * width : CHUNK) : items * longest;
    w->chunk = w->capacity < CHUNK ? w->capacity : CHUNK;
    w->behind = w->raster ? reach_behind(w) + w->chunk : reach_behind(w) + 1;
    int64_t all = w->raster ? height * width : w->keys; /* no cell inside an item lies further back */
    if (w->behind > all) w->behind = all;
    w->slots = w->raster ? w->behind : items * w->behind * height;
    size_t n = (size_t)w->capacity, one = sizeof(int64_t);
    size_t wide = (size_t)((net->widest > 2 * C ? net->widest : 2 * C) + 16) * sizeof(int32_t); /* a value, or a state */
    w->state = calloc((size_t)(items * height * width * C), 2 * sizeof *w->state);
    w->pool = calloc((size_t)w->chunk, (size_t)net->pool + 1), w->kept = calloc(n, (size_t)net->kept + 1);
    w->ring = calloc((size_t)w->slots, (size_t)net->ring + 1), w->zero = calloc(1, wide);
    w->base = calloc((size_t)net->values, sizeof *w->base), w->near = calloc((size_t)net->sets + 1, sizeof *w->near);
    w->item = calloc(n, one), w->y = calloc(n, one), w->x = calloc(n, one), w->slot = calloc(n, one);
    w->low = calloc(n, one), w->high = calloc(n, one), w->prefix = calloc(n, one), w->inverse = calloc(n, one * (size_t)M);
    w->weight = calloc(n, sizeof *w->weight * (size_t)M), w->mean = calloc(n, sizeof *w->mean * (size_t)M);
    w->in = calloc((size_t)w->chunk, sizeof *w->in), w->out = calloc((size_t)w->chunk, sizeof *w->out);
    w->made = calloc(1, wide);
    w->memory = calloc((size_t)(items * height), (size_t)net->remembered * sizeof *w->memory + 1);
    w->absorbed = calloc((size_t)(items * height), sizeof *w->absorbed * (size_t)net->ops);
    int good = w->start && w->length && w->state && w->pool && w->kept && w->ring && w->zero && w->base && w->near && w->item && w->y &&
               w->x && w->slot && w->low && w->high && w->prefix && w->inverse && w->weight && w->mean && w->in && w->out &&
               w->made && w->memory && w->absorbed;
    for (int k = 0; k < MAX_INPUTS; k++) good = (w->read[k] = calloc(1, wide)) && good;
    for (int64_t s = 0; good && s < net->sets; s++)
        good = (w->near[s] = calloc(n, one * (size_t)(net->set[s].length / 2 + 1))) != NULL;
    for (int64_t i = 0; good && i < net->ops; i++) {
        const Value *v = net->value + net->op[i].out;
        char *store = v->place == RING ? w->ring : v->place == KEPT ? w->kept : w->pool;
        w->base[net->op[i].out] = store + v->offset * (v->place == RING ? w->slots : v->place == KEPT ? w->capacity : w->chunk);
    }
    if (good) return w;
    ardm_walk_free(w);
    return NULL;
}

/* The largest front. */
int64_t ardm_capacity(const Walk *w) { return w->capacity; }

static int32_t *state_at(const Walk *w, int64_t item, int64_t y, int64_t x)
{
    return w->state + ((item * w->height + y) * w->width + x) * 2 * w->net->channels;
}

/* Copy a place of items value, depth (items, C, H, W) to the state; depth NULL: all is known. */
static void load_place(Walk *w, const int64_t *value, const int64_t *depth, int64_t item, int64_t y, int64_t x)
{
    int64_t C = w->net->channels, area = w->height * w->width, from = item * C * area + y * w->width + x;
    int32_t *to = state_at(w, item, y, x);
    for (int64_t c = 0; c < C; c++, from += area) {
        int32_t known = depth ? (int32_t)depth[from] : 1;
        to[c] = known * (int32_t)(2 * value[from] - (w->net->classes - 1));
        to[C + c] = known;
    }
}

/* Set the whole state: values 0 .. K − 1 and depths 0 or 1, (items, C, H, W).  0 if one lies outside. */
int64_t ardm_load(Walk *w, const int64_t *value, const int64_t *depth)
{
    int64_t numbers = w->items * w->net->channels * w->height * w->width;
    for (int64_t i = 0; i < numbers; i++)
        if (value[i] < 0 || value[i] >= w->net->classes || (depth && (depth[i] < 0 || depth[i] > 1))) return 0;
    for (int64_t b = 0; b < w->items; b++)
        for (int64_t y = 0; y < w->height; y++)
            for (int64_t x = 0; x < w->width; x++) load_place(w, value, depth, b, y, x);
    return 1;
}

static int64_t slot_of(const Walk *w, int64_t item, int64_t y, int64_t x)
{
    if (w->raster) return (y * w->width + x) % w->behind;
    return (item * w->behind + (x + w->net->slope * y) % w->behind) * w->height + y;
}

/* The places of the next front and where their neighbours lie; 0 after the last. */
static int64_t advance(Walk *w)
{
    int64_t n = 0, area = w->height * w->width;
    do w->now++; /* narrow items have keys without a place */
    while (!w->raster && w->now < w->keys && key_count(w, w->now) == 0);
    if (w->raster) {
        for (; n < w->capacity && w->raw < w->items * area && (n == 0 || w->raw % area); n++, w->raw++)
            w->item[n] = w->raw / area, w->y[n] = w->raw % area / w->width, w->x[n] = w->raw % w->width;
    } else if (w->now < w->keys) {
        int64_t top = key_top(w, w->now), count = key_count(w, w->now);
        for (int64_t b = 0; b < w->items; b++)
            for (int64_t k = 0; k < count && (w->height > 1 || w->now < w->length[b]); k++, n++)
                w->item[n] = b, w->y[n] = top + k, w->x[n] = w->now - w->net->slope * (top + k);
    }
    for (int64_t i = 0; i < n; i++) w->slot[i] = slot_of(w, w->item[i], w->y[i], w->x[i]);
    for (int64_t s = 0; s < w->net->sets; s++) {
        const Tensor cells = w->net->set[s];
        int64_t *near = w->near[s];
        for (int64_t i = 0; i < n; i++)
            for (int64_t k = 0; k < cells.length; k += 2) {
                int64_t y = w->y[i] + cells.data[k], x = w->x[i] + cells.data[k + 1];
                int outside = y < 0 || y >= w->height || x < 0 || x >= w->width;
                *near++ = outside ? -1 : slot_of(w, w->item[i], y, x);
            }
    }
    return w->count = n;
}

/* --- operations, row by row --------------------------------------------------------------------------------------- */

static char *row(const Walk *w, int64_t value, int64_t i, int64_t first)
{
    const Value *v = w->net->value + value;
    return w->base[value] + (v->place == RING ? w->slot[i] : v->place == KEPT ? i : i - first) * v->bytes;
}

static int64_t floor_divide(int64_t a, int64_t b) { return a / b - (a % b < 0); } /* b > 0 */

static void window_row(Walk *w, const Op *op, int64_t i, int32_t *out)
{
    int64_t C = w->net->channels, cells = op->t[1].length / 2;
    for (int64_t k = 0; k < cells; k++) {
        int64_t y = w->y[i] + op->t[1].data[2 * k], x = w->x[i] + op->t[1].data[2 * k + 1];
        int outside = y < 0 || y >= w->height || x < 0 || x >= w->width;
        const int32_t *at = outside ? (const int32_t *)w->zero : state_at(w, w->item[i], y, x);
        for (int64_t p = 0; p < op->t[0].length; p++) out[p * cells + k] = at[op->t[0].data[p]];
        for (int64_t c = 0; !outside && c < C; c++) w->unsettled |= !at[C + c];
    }
}

static void nearby_row(const Net *net, const Op *op, int32_t *const *in, int32_t *out)
{
    for (int64_t c = 0; c < net->channels; c++) {
        int64_t value = 0, known = 0;
        for (int64_t k = 0; k < op->inputs; k++) {
            int64_t cells = op->t[k].length, v = 0, d = 0;
            const int32_t *a = in[k] + c * cells, *b = in[k] + (net->channels + c) * cells;
            for (int64_t j = 0; j < cells; j++) v += a[j] * op->t[k].data[j], d += b[j] * op->t[k].data[j];
            value += v * ((int64_t)1 << op->n[2 + k]), known += d * ((int64_t)1 << op->n[2 + k]);
        }
        int64_t mean = known > 0 ? floor_divide(value * ((int64_t)1 << op->n[1]) + known / 2, known) : 0;
        out[c] = (int32_t)clip(mean, -op->n[0], op->n[0]);
    }
}

static void contrast_row(const Net *net, const Op *op, const int32_t *window, const int32_t *mean, int64_t planes, int32_t *out)
{
    int64_t C = net->channels, cells = planes / (2 * C), half = ((int64_t)1 << op->n[2]) >> 1;
    for (int64_t c = 0; c < C; c++)
        for (int64_t j = c * cells; j < (c + 1) * cells; j++) {
            int64_t v = window[j], k = window[C * cells + j];
            v = (v * ((int64_t)1 << op->n[1]) - mean[c] * k + half) >> op->n[2];
            out[j] = (int32_t)clip(v, -op->n[0], op->n[0]);
            out[C * cells + j] = (int32_t)(k * ((int64_t)1 << op->n[3]));
        }
}

static void earlier_row(const Walk *w, const Op *op, int64_t i, int64_t channel, const int32_t *mean, int32_t *out)
{
    const int32_t *at = state_at(w, w->item[i], w->y[i], w->x[i]);
    int64_t half = ((int64_t)1 << op->n[1]) >> 1;
    for (int64_t j = 0; j < w->net->channels; j++) {
        int64_t v = (at[j] * ((int64_t)1 << op->n[0]) - mean[j] + half) >> op->n[1];
        out[j] = j < channel ? (int32_t)clip(v, -op->n[2], op->n[2]) : 0;
    }
}

static void table_row(const Op *op, const int32_t *in, int64_t planes, int32_t *out)
{
    for (int64_t p = 0; p < planes; p++) out[p] = (int32_t)op->t[0].data[clip(in[p] - op->n[0], 0, op->t[0].length - 1)];
}

static void hash_row(const Op *op, const int32_t *in, int64_t planes, int32_t *out)
{
    const uint64_t step = 0x2F0B4C47, spread = 0x5DEECE6D, most = ((uint64_t)1 << 31) - 1;
    for (int64_t k = 0; k < planes; k++) {
        const int64_t *context = op->t[0].data + k * op->n[1];
        uint64_t h = 0;
        for (int64_t j = 0; j < op->n[1] && context[j] >= 0; j++) h = (h * step + (uint64_t)(int64_t)in[context[j]] + 1) & most;
        out[k] = (int32_t)((k << op->n[0]) + (int64_t)((h * spread & most) >> (31 - op->n[0])));
    }
}

/* Rows of a table of numbers of 1, 2 or 4 bytes. */
static void embed_row(const Op *op, const int32_t *in, int64_t planes, int32_t *out)
{
    int64_t E = op->n[1], bytes = op->n[2];
    for (int64_t p = 0; p < planes / E; p++, out += E) {
        const char *at = (const char *)op->t[0].data + clip(in[p], 0, op->n[0] - 1) * E * bytes;
        for (int64_t e = 0; e < E; e++)
            out[e] = bytes == 1 ? ((const int8_t *)at)[e] : bytes == 2 ? ((const int16_t *)at)[e] : ((const int32_t *)at)[e];
    }
}

static void ratio_row(const Op *op, const int32_t *a, int32_t by, int64_t planes, int32_t *out)
{
    for (int64_t p = 0; p < planes; p++)
        out[p] = (int32_t)clip(floor_divide(a[p] * ((int64_t)1 << op->n[0]), by > 1 ? by : 1), op->n[1], op->n[2]);
}

static void log_row(const Op *op, const int32_t *a, int64_t planes, int32_t *out)
{
    for (int64_t p = 0; p < planes; p++) {
        int64_t x = a[p] > 1 ? a[p] : 1, n = 0;
        while (x >> n > 1) n++;
        int64_t rest = (n > 8 ? x >> (n - 8) : x << (8 - n)) - 256;
        out[p] = (int32_t)((n * op->n[0] + op->t[0].data[rest]) >> op->n[1]);
    }
}

/* What the lattices of the row of place i say, after they have learnt from the samples before it. */
static void lattice_row(Walk *w, const Op *op, int64_t i, int32_t *out)
{
    const Lattice *a = &op->lattice;
    int64_t line = w->item[i] * w->height + w->y[i], *state = w->memory + line * w->net->remembered + op->first_state;
    int64_t *x = w->absorbed + line * w->net->ops + (op - w->net->op);
    if (*x == 0 || *x > w->x[i]) lattice_begin(a, state), *x = 0;
    for (; *x < w->x[i]; (*x)++) {
        const int32_t *at = state_at(w, w->item[i], w->y[i], *x);
        w->unsettled |= !at[1];
        lattice_absorb(a, state, at[0]);
    }
    lattice_read(a, state, out);
}

/* A matrix product in 64 bits. */
static void wide_product_row(const Op *op, int64_t which, const int32_t *in, int32_t *out)
{
    int64_t I = op->n[1], O = op->n[2];
    const int64_t *weight = op->t[0].data + which * I * O, *bias = op->t[1].data + which * O;
    for (int64_t o = 0; o < O; o++) {
        int64_t sum = bias[o];
        for (int64_t i = 0; i < I; i++) sum += in[i] * weight[i * O + o];
        out[o] = (int32_t)clip(sum >> op->t[2].data[which * O + o], op->n[3], op->n[4]);
    }
}

/* One row of an operation that works in 32 bits. */
static void compute_row(Walk *w, const Op *op, int64_t i, int64_t channel, int32_t *const *in, int32_t *out)
{
    const Net *net = w->net;
    int64_t planes = net->value[op->out].planes;
    switch (op->code) {
    case WINDOW: window_row(w, op, i, out); break;
    case NEARBY: nearby_row(net, op, in, out); break;
    case CONTRAST: contrast_row(net, op, in[0], in[1], planes, out); break;
    case LINEAR: wide_product_row(op, op->n[0] > 1 ? channel : 0, in[0], out); break;
    case SHIFT: net->kernels->shift(in[0], out, planes, (int)op->n[0], (int32_t)op->n[1], (int32_t)op->n[2]); break;
    case ADD: net->kernels->add(in[0], in[1], out, planes); break;
    case LESS:
        for (int64_t p = 0; p < planes; p++) out[p] = in[0][p] - in[1][0];
        break;
    case CONCAT:
        for (int64_t k = 0; k < op->inputs; k++) {
            memcpy(out, in[k], (size_t)net->value[op->in[k]].planes * sizeof *out);
            out += net->value[op->in[k]].planes;
        }
        break;
    case EARLIER: earlier_row(w, op, i, channel, in[0], out); break;
    case GATE: net->kernels->gate(in[0], in[1], out, planes, (int)op->n[0], (int32_t)op->n[1], (int32_t)op->n[2]); break;
    case CARRY: net->kernels->carry(in[0], in[1], in[2], out, planes, (int)op->n[0]); break;
    case TABLE: table_row(op, in[0], planes, out); break;
    case HASH: hash_row(op, in[0], planes, out); break;
    case EMBED: embed_row(op, in[0], planes, out); break;
    case PICK: out[0] = in[0][channel]; break;
    case RATIO: ratio_row(op, in[0], in[1][0], planes, out); break;
    case LOG: log_row(op, in[0], planes, out); break;
    case LATTICE: lattice_row(w, op, i, out); break;
    }
}

static void taps_row(const Walk *w, const Op *op, int64_t i, char *out)
{
    const Value *a = w->net->value + op->in[0];
    int64_t cells = op->t[0].length / 2, bytes = a->planes * (a->wide ? 4 : 2);
    const int64_t *near = w->near[op->set] + i * cells;
    for (int64_t k = 0; k < cells; k++, out += bytes)
        memcpy(out, near[k] < 0 ? w->zero : w->base[op->in[0]] + near[k] * a->bytes, (size_t)bytes);
}

/* A row in 32 bits: the row itself, or a copy. */
static int32_t *widened(Walk *w, int64_t value, char *from, int32_t *copy)
{
    const Value *v = w->net->value + value;
    if (v->wide) return (int32_t *)from;
    w->net->kernels->widen((const int16_t *)from, copy, v->planes);
    return copy;
}

/* What CARRY made at the place before place i. */
static char *before(const Walk *w, const Op *op, int64_t i)
{
    int64_t near = w->near[op->set][i];
    return near < 0 ? w->zero : w->base[op->out] + near * w->net->value[op->out].bytes;
}

/* One operation for places first .. last − 1 of the front; rows are of one channel. */
static void run(Walk *w, const Op *op, int64_t first, int64_t last, int64_t channel)
{
    const Net *net = w->net;
    const Value *made = net->value + op->out;
    if (op->code == LINEAR && op->matrix) {
        for (int64_t i = first; i < last; i++) {
            w->in[i - first] = (const int16_t *)row(w, op->in[0], i, first);
            w->out[i - first] = row(w, op->out, i, first);
        }
        net->kernels->product(op->matrix + (op->n[0] > 1 ? channel : 0), w->in, w->out, (int)made->wide, last - first);
        return;
    }
    for (int64_t i = first; i < last; i++) {
        char *out = row(w, op->out, i, first);
        if (op->code == TAPS) {
            taps_row(w, op, i, out);
            continue;
        }
        if (op->code == AT) {
            memcpy(out, row(w, op->in[0], i, first), (size_t)made->bytes);
            continue;
        }
        int32_t *in[MAX_INPUTS];
        for (int64_t k = 0; k < op->inputs; k++) in[k] = widened(w, op->in[k], row(w, op->in[k], i, first), w->read[k]);
        if (op->code == CARRY) in[2] = widened(w, op->out, before(w, op, i), w->read[2]);
        compute_row(w, op, i, channel, in, made->wide ? (int32_t *)out : w->made);
        if (!made->wide) net->kernels->narrow(w->made, (int16_t *)out, made->planes);
    }
}

static void run_places(Walk *w, int64_t first, int64_t last)
{
    for (int64_t i = 0; i < w->net->first_rows; i++) run(w, w->net->op + i, first, last, 0);
}

static void run_rows(Walk *w, int64_t first, int64_t last, int64_t channel)
{
    for (int64_t i = w->net->first_rows; i < w->net->ops - 1; i++) run(w, w->net->op + i, first, last, channel);
}

/* All places of a front, a chunk at a time. */
static void run_front(Walk *w)
{
    for (int64_t a = 0; a < w->count; a += w->chunk) run_places(w, a, a + w->chunk < w->count ? a + w->chunk : w->count);
}

/* --- mixtures ----------------------------------------------------------------------------------------------------- */

/* A row of an input of the head in 32 bits. */
static const int32_t *head_row(Walk *w, int which, int64_t i, int64_t first)
{
    int64_t value = w->net->op[w->net->ops - 1].in[which];
    return widened(w, value, row(w, value, i, first), w->read[which]);
}

/* The mixture of place i: weights that sum to 2^14, means, inverse scales. */
static void mixture(Walk *w, int64_t i, int64_t first)
{
    const Net *net = w->net;
    int64_t M = net->head[0], rise = net->head[3], limit = net->head[4], total = 0, rest = 1 << WEIGHT, largest = 0;
    const int32_t *o = head_row(w, 0, i, first), *centre = head_row(w, 1, i, first);
    int32_t *weight = w->weight + i * M, *mean = w->mean + i * M, most = o[0];
    int64_t mass[MAX_COMPONENTS], middle = net->inverse.length / 2;
    for (int64_t m = 1; m < M; m++) most = o[m] > most ? o[m] : most;
    for (int64_t m = 0; m < M; m++) {
        int64_t below = (int64_t)most - o[m];
        total += mass[m] = net->exponential.data[below < GRID_END ? below : GRID_END];
        mean[m] = (int32_t)clip(centre[0] * ((int64_t)1 << rise) + o[M + m] + net->places.data[m], -limit, limit);
        w->inverse[i * M + m] = net->inverse.data[clip(o[2 * M + m] + middle, 0, 2 * middle)];
    }
    for (int64_t m = 0; m < M; m++) {
        rest -= weight[m] = (int32_t)((mass[m] << WEIGHT) / total);
        if (weight[m] > weight[largest]) largest = m;
    }
    weight[largest] += (int32_t)rest;
}

/* F at the edge before value x, in units of 2^−44, in the mixture of place i. */
static int64_t distribution(const Walk *w, int64_t i, int64_t x)
{
    const Net *net = w->net;
    if (x <= 0) return 0;
    if (x >= net->classes) return (int64_t)1 << (UNITY + WEIGHT);
    const int64_t M = net->head[0], by = net->head[1] + net->head[2] - FINE;
    const int64_t at = (2 * x - net->classes) * ((int64_t)1 << net->head[1]), end = (2 * REACH << FINE) - 1;
    const int32_t *weight = w->weight + i * M, *mean = w->mean + i * M;
    const int64_t *inverse = w->inverse + i * M;
    int64_t sum = 0;
    for (int64_t m = 0; m < M; m++) {
        int64_t z = ((at - mean[m]) * inverse[m] >> by) + (REACH << FINE);
        z = z < 0 ? 0 : z > end ? end : z;
        const int32_t *knot = net->sigmoid + (z >> REST);
        sum += weight[m] * (int64_t)(knot[0] + ((knot[1] - knot[0]) * ((int32_t)z & ((1 << REST) - 1)) >> REST));
    }
    return sum;
}

/* A stage of place i splits the values low .. end − 1, where F is from .. to, into n children of `size` values. */
typedef struct {
    int64_t low, end, size, n, from, to, shift, all;
} Stage;

static Stage stage_at(const Walk *w, int64_t i, int64_t stage)
{
    const Net *net = w->net;
    Stage s = {.size = 1, .from = w->low[i], .to = w->high[i]};
    for (int64_t later = stage + 1; later < net->stages; later++) s.size *= RADIX;
    s.low = w->prefix[i] * net->radix[stage] * s.size;
    s.end = s.low + net->radix[stage] * s.size;
    if (s.end > net->classes) s.end = net->classes;
    s.n = (s.end - s.low + s.size - 1) / s.size;
    s.shift = (s.to - s.from) >> 38 ? 6 : 0, s.all = (s.to - s.from) >> s.shift;
    return s;
}

/* F at the edge before child e. */
static int64_t edge(const Walk *w, int64_t i, const Stage *s, int64_t e)
{
    return e == 0 ? s->from : e >= s->n ? s->to : distribution(w, i, s->low + e * s->size);
}

/* c(e) of the edge before child e, where F is f. */
static int64_t border(const Stage *s, int64_t e, int64_t f)
{
    if (e >= s->n) return (int64_t)1 << PRECISION;
    int64_t share = s->all ? (f - s->from) >> s->shift : e, all = s->all ? s->all : s->n;
    return e + (int64_t)((uint64_t)(share * (((int64_t)1 << PRECISION) - s->n)) / (uint64_t)all);
}

/* Whether c(e) <= slot, without a division. */
static int begins_by(const Stage *s, int64_t e, int64_t f, int64_t slot)
{
    int64_t share = s->all ? (f - s->from) >> s->shift : e, all = s->all ? s->all : s->n;
    return slot >= e && share * (((int64_t)1 << PRECISION) - s->n) < (slot - e + 1) * all;
}

/* Go on with child e of place i, between F from and to. */
static void descend(Walk *w, int64_t i, int64_t stage, int64_t e, int64_t from, int64_t to)
{
    w->prefix[i] = w->prefix[i] * w->net->radix[stage] + e, w->low[i] = from, w->high[i] = to;
}

static void begin(Walk *w, int64_t i) { w->prefix[i] = 0, w->low[i] = 0, w->high[i] = (int64_t)1 << (UNITY + WEIGHT); }

/* --- softmaxes of values ------------------------------------------------------------------------------------------ */

/* The widths of the values at place i: in proportion to their masses, at least 1, with the rest for the first of the widest. */
static void value_widths(Walk *w, int64_t i, int64_t first, int64_t *width)
{
    const int64_t K = w->net->classes, impossible = -((int64_t)1 << 22) - 1;
    const int32_t *o = head_row(w, 0, i, first);
    int64_t most = INT64_MIN, possible = 0, total = 0, rest = (int64_t)1 << PRECISION, widest = 0;
    for (int64_t j = 0; j < K; j++) {
        possible += o[j] > impossible;
        if (o[j] > most) most = o[j];
    }
    int all = possible == 0;
    if (all) possible = K;
    for (int64_t j = 0; j < K; j++)
        total += width[j] = all || o[j] > impossible ? w->net->exponential.data[most - o[j] < GRID_END ? most - o[j] : GRID_END] : 0;
    for (int64_t j = 0; j < K; j++) {
        width[j] = width[j] * (((int64_t)1 << PRECISION) - possible) / total + (all || o[j] > impossible);
        rest -= width[j];
        if (width[j] > width[widest]) widest = j;
    }
    width[widest] += rest;
}

/* --- encoding ----------------------------------------------------------------------------------------------------- */

/* The intervals of the symbols of one place and channel, of a chunk that begins at place a, written where a decoder wants them: steps, stages, places. */
static void intervals(Walk *w, int64_t i, int64_t a, int64_t channel, int32_t *start, int32_t *width)
{
    const Net *net = w->net;
    int64_t key = w->x[i] + net->slope * w->y[i], count = w->start[key + 1] - w->start[key];
    int64_t coded = w->last - w->first + 1, area = w->height * w->width, finer = 1;
    int64_t at = (w->item[i] * area + w->start[key]) * coded * net->stages;
    at += (channel - w->first) * count * net->stages + w->y[i] - key_top(w, key);
    int64_t symbol = (state_at(w, w->item[i], w->y[i], w->x[i])[channel] + net->classes - 1) / 2;
    if (!net->head[0]) {
        int64_t each[MAX_CLASSES];
        value_widths(w, i, a, each);
        start[at] = 0, width[at] = (int32_t)each[symbol];
        for (int64_t j = 0; j < symbol; j++) start[at] += (int32_t)each[j];
        return;
    }
    mixture(w, i, a);
    for (int64_t s = 1; s < net->stages; s++) finer *= RADIX;
    begin(w, i);
    for (int64_t s = 0; s < net->stages; s++, at += count, finer /= RADIX) {
        Stage stage = stage_at(w, i, s);
        int64_t e = symbol / finer % net->radix[s];
        int64_t from = edge(w, i, &stage, e), to = edge(w, i, &stage, e + 1);
        start[at] = (int32_t)border(&stage, e, from);
        width[at] = (int32_t)(border(&stage, e + 1, to) - start[at]);
        descend(w, i, s, e, from, to);
    }
}

/* Encode at least `budget` more places of the loaded items: start, width (items, symbols).  0 at the end. */
int64_t ardm_encode(Walk *w, int64_t budget, int32_t *start, int32_t *width)
{
    while (budget > 0 && advance(w)) {
        budget -= w->count;
        for (int64_t a = 0, b; a < w->count; a = b) {
            b = a + w->chunk < w->count ? a + w->chunk : w->count;
            run_places(w, a, b);
            for (int64_t c = w->first; c <= w->last; c++) {
                run_rows(w, a, b, c);
                for (int64_t i = a; i < b; i++) intervals(w, i, a, c, start, width);
            }
        }
    }
    return budget <= 0;
}

/* --- decoding ----------------------------------------------------------------------------------------------------- */

/* The decoder of a stream as in ardm/ans.py: its state, and its words, 4 bytes each, the highest first. */
typedef struct {
    uint64_t state;
    const uint8_t *words;
    int64_t left;
} Stream;

/* Take the symbol of an interval off a stream. */
static void take(Stream *stream, int64_t start, int64_t width)
{
    int64_t slot = (int64_t)(stream->state & ((1 << PRECISION) - 1));
    stream->state = (uint64_t)width * (stream->state >> PRECISION) + (uint64_t)(slot - start);
    if (stream->state >> 32 == 0 && stream->left > 0) {
        const uint8_t *b = stream->words;
        uint64_t word = (uint64_t)b[0] << 24 | (uint64_t)b[1] << 16 | (uint64_t)b[2] << 8 | b[3];
        stream->state = stream->state << 32 | word, stream->words += 4, stream->left--;
    }
}

/* The value of place i, of a chunk that begins at place a, that the next number of a stream belongs to. */
static void pop_value(Walk *w, int64_t i, int64_t a, Stream *stream)
{
    int64_t width[MAX_CLASSES], slot = (int64_t)(stream->state & ((1 << PRECISION) - 1)), j = 0, start = 0;
    value_widths(w, i, a, width);
    for (; start + width[j] <= slot; j++) start += width[j];
    take(stream, start, width[j]);
    w->prefix[i] = j;
}

/* The child of place i at stage s that the next number of a stream belongs to. */
static int64_t pop(Walk *w, int64_t i, int64_t s, Stream *stream)
{
    Stage stage = stage_at(w, i, s);
    int64_t slot = (int64_t)(stream->state & ((1 << PRECISION) - 1)), low = 0, high = stage.n;
    int64_t from = stage.from, to = stage.to;
    while (high - low > 1) { /* c(low) <= slot < c(high) */
        int64_t e = (low + high) / 2, f = distribution(w, i, stage.low + e * stage.size);
        if (begins_by(&stage, e, f, slot)) low = e, from = f;
        else high = e, to = f;
    }
    int64_t start = border(&stage, low, from), width = border(&stage, high, to) - start;
    descend(w, i, s, low, from, to);
    take(stream, start, width);
    return low;
}

static void write_symbol(Walk *w, int64_t i, int64_t channel)
{
    int64_t C = w->net->channels, first = w->first == w->last ? 0 : channel, last = w->first == w->last ? C - 1 : channel;
    int32_t *at = state_at(w, w->item[i], w->y[i], w->x[i]);
    for (int64_t c = first; c <= last; c++) /* a plane on its own is written to every channel */
        at[c] = (int32_t)(2 * w->prefix[i] - (w->net->classes - 1)), at[C + c] = 1;
}

/* Decode at least `budget` more places, one stream an item.  0 at the end. */
int64_t ardm_decode(Walk *w, int64_t budget, Stream *streams)
{
    while (budget > 0 && advance(w)) {
        budget -= w->count;
        run_front(w);
        for (int64_t c = w->first; c <= w->last; c++) {
            for (int64_t a = 0, b; a < w->count; a = b) {
                b = a + w->chunk < w->count ? a + w->chunk : w->count;
                run_rows(w, a, b, c);
                for (int64_t i = a; i < b; i++)
                    if (w->net->head[0]) mixture(w, i, a), begin(w, i);
                    else pop_value(w, i, a, streams + w->item[i]);
            }
            for (int64_t s = 0; w->net->head[0] && s < w->net->stages; s++)
                for (int64_t i = 0; i < w->count; i++) pop(w, i, s, streams + w->item[i]);
            for (int64_t i = 0; i < w->count; i++) write_symbol(w, i, c);
        }
    }
    return budget <= 0;
}

/* The values of the items (items, C, H, W). */
void ardm_values(const Walk *w, int64_t *out)
{
    for (int64_t b = 0; b < w->items; b++)
        for (int64_t c = 0; c < w->net->channels; c++)
            for (int64_t y = 0; y < w->height; y++)
                for (int64_t x = 0; x < w->width; x++) *out++ = (state_at(w, b, y, x)[c] + w->net->classes - 1) / 2;
}

/* --- head inputs, for other coders -------------------------------------------------------------------------------- */

static void copy_heads(Walk *w, int64_t first, int64_t last, int64_t channel, int64_t *o, int64_t *centre)
{
    int64_t columns = w->net->columns;
    run_rows(w, first, last, channel);
    for (int64_t i = first; i < last; i++) {
        const int32_t *from = head_row(w, 0, i, first);
        for (int64_t k = 0; k < columns; k++) o[i * columns + k] = from[k];
        centre[i] = w->net->head[0] ? head_row(w, 1, i, first)[0] : 0;
    }
}

/* The next front of a raster walk: the coordinates of its places, and for each channel coded the inputs of the head,
   o (channels, capacity, columns) and centre (channels, capacity).  Returns its size, 0 at the end. */
int64_t ardm_heads(Walk *w, int64_t *item, int64_t *y, int64_t *x, int64_t *o, int64_t *centre)
{
    int64_t n = advance(w);
    memcpy(item, w->item, (size_t)n * sizeof *item), memcpy(y, w->y, (size_t)n * sizeof *y);
    memcpy(x, w->x, (size_t)n * sizeof *x);
    run_front(w);
    for (int64_t c = w->first; c <= w->last; c++, o += w->capacity * w->net->columns, centre += w->capacity)
        for (int64_t a = 0; a < n; a += w->chunk) copy_heads(w, a, a + w->chunk < n ? a + w->chunk : n, c, o, centre);
    return n;
}

/* The inputs of the head at every place of wavefront `key`, for a channel: o (places, columns), centre (places,).
   value, depth (items, C, H, W): the state; what a walk revealed is read from it.  Returns the number of places; −1 where
   the walk is past this front, or where earlier places are not known. */
int64_t ardm_step(Walk *w, const int64_t *value, const int64_t *depth, int64_t key, int64_t channel, int64_t *o, int64_t *centre)
{
    if (key < w->now || key >= w->keys || w->unsettled) return -1;
    int64_t fresh = w->now < key;
    for (;;) {
        for (int64_t i = 0; i < w->count; i++) load_place(w, value, depth, w->item[i], w->y[i], w->x[i]);
        if (w->now == key) break;
        advance(w);
        for (int64_t i = 0; i < w->count; i++) load_place(w, value, depth, w->item[i], w->y[i], w->x[i]);
        run_front(w);
    }
    if (fresh && w->unsettled) return -1;
    for (int64_t a = 0; a < w->count; a += w->chunk)
        copy_heads(w, a, a + w->chunk < w->count ? a + w->chunk : w->count, channel, o, centre);
    return w->count;
}
