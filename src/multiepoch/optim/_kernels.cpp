// The fast path of EmbeddingOptimizer on a CPU: one sweep over the touched rows sums a row's
// gradients, updates its state and writes its weights, while the eager path reads and writes
// every intermediate result. Plain C interface without the headers of Python or torch, so that one
// build serves all their versions. The mathematics is that of rules.py, term by term; setup.py builds
// it and compiled.py calls it.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <thread>
#include <vector>

#ifdef __linux__
// How compilers call OpenMP. Weak, so that the runtime is the one that torch has loaded; null if it
// has loaded none.
extern "C" __attribute__((weak)) void GOMP_parallel(void (*)(void*), void*, unsigned, unsigned);
#endif

namespace {

struct Step {  // mirrored by `Step` in compiled.py
    float lr, eps;
    float gain1, beta2, gain2;     // Adam: gain = 1 - beta, taken before it is rounded to a float
    float eps_scaled, root_scale;  // Adam: eps * c1 and c1 / sqrt(c2), c the bias corrections
};

struct Scale {  // mirrored by `Scale` in compiled.py: FrequencyAdaptiveLR, and the table's counts
    int32_t* count;  // of every row of the table; null without FAL
    int64_t stride;  // from the count of a row to that of the next
    int32_t* max_count;
    int32_t by_steps;  // whether a row's count grows by 1 and not by its occurrences
    int32_t kind, threshold;
    float exponent, reduced, gap;

    int32_t& count_of(int64_t row) const { return count[row * stride]; }
};

// Uses torch's own threads if OpenMP is available: while waiting for work they keep the cores busy,
// and additional threads would have to share them.
template <typename Work>
void in_parallel(int threads, int64_t n, Work work) {
    const int64_t chunk = 512;  // rows; small, because a frequent row has many gradients to add
    std::atomic<int64_t> next{0};
    auto loop = [&] {
        for (int64_t first; (first = next.fetch_add(chunk)) < n;)
            work(first, std::min(first + chunk, n));
    };
    if (n < 2 * chunk || threads < 2) return loop();
#ifdef __linux__
    if (GOMP_parallel) {
        const auto call = [](void* one) { (*static_cast<decltype(loop)*>(one))(); };
        return GOMP_parallel(call, &loop, threads, 0);
    }
#endif
    std::vector<std::thread> others;
    for (int t = 1; t < std::min<int64_t>(threads, n / chunk); ++t) others.emplace_back(loop);
    loop();
    for (auto& other : others) other.join();
}

inline void prefetch_row(const float* row, int64_t dim) {
    for (int64_t j = 0; j < dim; j += 16) __builtin_prefetch(row + j, 1);
}

// Each rule: the number of states of a weight; their update and the direction, from its gradient.
struct Adam {
    static constexpr int states = 2;
    static float direction(float g, float* mean, float* square, int64_t j, const Step& s) {
        mean[j] += s.gain1 * (g - mean[j]);
        square[j] = s.beta2 * square[j] + s.gain2 * g * g;
        return mean[j] / (std::sqrt(square[j]) * s.root_scale + s.eps_scaled);
    }
};
struct Adagrad {
    static constexpr int states = 1;
    static float direction(float g, float* sum, float*, int64_t j, const Step& s) {
        sum[j] += g * g;
        return g / (std::sqrt(sum[j]) + s.eps);
    }
};
struct Sgd {
    static constexpr int states = 0;
    static float direction(float g, float*, float*, int64_t, const Step&) { return g; }
};

struct Batch {  // k rows; row i's gradients are values[order[start[i]]] ... values[order[start[i+1]-1]]
    const int64_t* rows;
    const int32_t* occurrences;
    const int64_t* start;
    const int32_t* order;
    const float* values;
    int64_t k, dim;
    int32_t* last_step;   // of every row of the table, for AdamAR, or null
    int32_t step;
    float alpha;
    float share;     // of a row that weight decay keeps: 1 - lr * weight_decay
    int64_t stride;  // of a state with one number for each row
};

// Returns the summed gradient of row i: in place if it has one lookup, else in `result`. Sums in
// double, so that a row's many small gradients are not lost to rounding.
const float* gradient(const Batch& b, int64_t i, double* __restrict sum, float* result) {
    const int64_t first = b.start[i], last = b.start[i + 1];
    const float* g = b.values + b.order[first] * b.dim;
    if (last - first == 1) return g;
    std::copy(g, g + b.dim, sum);
    for (int64_t p = first + 1; p < last; ++p) {
        const float* __restrict more = b.values + b.order[p] * b.dim;
        if (p + 8 < last) prefetch_row(b.values + b.order[p + 8] * b.dim, b.dim);
        for (int64_t j = 0; j < b.dim; ++j) sum[j] += more[j];
    }
    std::copy(sum, sum + b.dim, result);
    return result;
}

// The share of a row that weight decay and AdamAR keep. AdamAR notes that it is trained in this step.
inline float kept(const Batch& b, int64_t row) {
    if (!b.last_step) return b.share;
    const float waited = static_cast<float>(b.step - 1 - b.last_step[row]);
    b.last_step[row] = b.step;
    return b.share * std::max(0.0f, 1.0f - b.alpha * waited);
}

// log(count + 1) of the most common counts, so that a step computes few logarithms.
const std::vector<float> small_logs = [] {
    std::vector<float> logs(4096);
    for (size_t count = 0; count < logs.size(); ++count) logs[count] = std::log1p(double(count));
    return logs;
}();

inline float log_count(int32_t count) {
    return size_t(count) < small_logs.size() ? small_logs[count] : std::log1p(double(count));
}

// FAL's factor of a row, by its count and the largest of the table, the batch included.
class Factor {
   public:
    explicit Factor(const Scale& s)
        : s(s),
          part(s.count ? 1.0f / *s.max_count : 0.0f),
          log_part(s.count ? 1.0f / log_count(*s.max_count) : 0.0f) {}
    float operator()(int32_t count) const {
        float f = count >= s.threshold ? 1.0f : s.reduced;
        if (s.kind == 0) f = log_count(count) * log_part;
        if (s.kind == 1) f = count * part;
        if (s.kind == 2) f = std::pow(count * part, s.exponent);
        return f * s.gap + (1.0f - s.gap);
    }

   private:
    const Scale s;
    const float part, log_part;
};

// Counts saturate: one that overflowed would be negative, and its factor NaN.
int32_t plus(int32_t count, int32_t grows) {
    return grows > INT32_MAX - count ? INT32_MAX : count + grows;
}

// The largest count of the table after the batch. No row had more than `before`, so a row that
// occurs n times now has at most before + n. Hence, if the row that occurs most often was also the
// most frequent before, as it usually is, no other count need be read.
int32_t largest_count(const Batch& b, const Scale& s) {
    const int32_t before = *s.max_count;
    const auto grows = [&](int64_t i) { return s.by_steps ? 1 : b.occurrences[i]; };
    int32_t top = 0;
    for (int64_t i = 0; i < b.k; ++i) top = std::max(top, b.occurrences[i]);
    const int64_t hot = std::find(b.occurrences, b.occurrences + b.k, top) - b.occurrences;
    int32_t most = std::max(before, plus(s.count_of(b.rows[hot]), grows(hot)));
    if (most == plus(before, grows(hot))) return most;
    for (int64_t i = 0; i < b.k; ++i)
        if (plus(before, grows(i)) > most)
            most = std::max(most, plus(s.count_of(b.rows[i]), grows(i)));
    return most;
}

template <typename Rule, bool rowwise>
void update(const Batch& b, float* weight, float* one, float* two, const Step& s,
            const Scale& scale, int threads) {
    if (scale.count) *scale.max_count = largest_count(b, scale);
    in_parallel(threads, b.k, [&](int64_t first, int64_t last) {
        const Factor factor(scale);
        std::vector<double> sum(b.dim);
        std::vector<float> result(b.dim);
        for (int64_t i = first; i < last; ++i) {
            if (const int64_t ahead = i + 6; ahead < last) {
                prefetch_row(b.values + b.order[b.start[ahead]] * b.dim, b.dim);
                const int64_t at = b.rows[ahead] * b.dim;
                prefetch_row(weight + at, b.dim);
                if (scale.count) __builtin_prefetch(&scale.count_of(b.rows[ahead]), 1);
                if (b.last_step) __builtin_prefetch(b.last_step + b.rows[ahead], 1);
                if (rowwise) __builtin_prefetch(one + b.rows[ahead] * b.stride, 1);
                if (!rowwise && Rule::states > 0) prefetch_row(one + at, b.dim);
                if (!rowwise && Rule::states > 1) prefetch_row(two + at, b.dim);
            }
            const float* __restrict g = gradient(b, i, sum.data(), result.data());
            const int64_t row = b.rows[i], at = row * b.dim;
            float rate = s.lr;
            if (scale.count) {
                int32_t& count = scale.count_of(row);
                rate *= factor(count = plus(count, scale.by_steps ? 1 : b.occurrences[i]));
            }
            const float keep = kept(b, row);
            float* __restrict w = weight + at;
            if (rowwise) {
                float squares = 0.0f;
#pragma omp simd reduction(+ : squares)
                for (int64_t j = 0; j < b.dim; ++j) squares += g[j] * g[j];
                float& sum_of_row = one[row * b.stride];
                sum_of_row += squares / static_cast<float>(b.dim);
                const float scaled = rate / (std::sqrt(sum_of_row) + s.eps);
                for (int64_t j = 0; j < b.dim; ++j) w[j] = keep * w[j] - scaled * g[j];
            } else {
                float* __restrict m = Rule::states > 0 ? one + at : nullptr;
                float* __restrict v = Rule::states > 1 ? two + at : nullptr;
                for (int64_t j = 0; j < b.dim; ++j)
                    w[j] = keep * w[j] - rate * Rule::direction(g[j], m, v, j, s);
            }
        }
    });
}

bool all_rows(const int64_t* ids, int64_t n, int64_t n_rows) {
    return std::all_of(ids, ids + n, [&](int64_t id) { return 0 <= id && id < n_rows; });
}

// Sorts entries by their number in [0, n_rows), the bits from `shift` on; stable.
template <typename Entry>
void radix_sort(std::vector<Entry>& from, int64_t n_rows, int shift) {
    int all_bits = 0;
    while ((n_rows - 1) >> all_bits > 0) ++all_bits;
    const int passes = std::max(1, (all_bits + 11) / 12);  // of equal size, at most 12 bits each
    const int bits = (all_bits + passes - 1) / passes, buckets = 1 << bits;
    std::vector<Entry> to(from.size());
    for (int done = 0; done < all_bits; done += bits) {
        std::vector<int64_t> place(buckets + 1);
        for (Entry entry : from) ++place[(entry >> shift >> done & (buckets - 1)) + 1];
        for (int d = 0; d < buckets; ++d) place[d + 1] += place[d];
        for (Entry entry : from) to[place[entry >> shift >> done & (buckets - 1)]++] = entry;
        from.swap(to);
    }
}

}  // namespace

// Finds the distinct ids in ascending order, the number of lookups of each, the start of its lookups
// in `order`, and `order`, the n lookups sorted by id and then by place, by a radix sort. Returns k,
// the number of distinct ids, or -1 if an id is not in [0, n_rows).
extern "C" int64_t touched_rows(const int64_t* ids, int64_t n, int64_t n_rows, int64_t* rows,
                                int32_t* occurrences, int64_t* start, int32_t* order) {
    if (!all_rows(ids, n, n_rows)) return -1;
    std::vector<uint64_t> from(n);  // id above, place below
    for (int64_t p = 0; p < n; ++p) from[p] = static_cast<uint64_t>(ids[p]) << 32 | p;
    radix_sort(from, n_rows, 32);
    int64_t k = 0;
    for (int64_t p = 0; p < n; ++p) {
        const int64_t id = from[p] >> 32;
        order[p] = static_cast<int32_t>(from[p]);
        if (p == 0 || id != rows[k - 1]) rows[k] = id, start[k] = p, occurrences[k++] = 0;
        ++occurrences[k - 1];
    }
    start[k] = n;
    return k;
}

// Finds the distinct ids in ascending order, and the number of lookups of each. Returns k, or -1 if an
// id is not in [0, n_rows).
extern "C" int64_t distinct_rows(const int64_t* ids, int64_t n, int64_t n_rows, int64_t* rows,
                                 int32_t* occurrences) {
    if (!all_rows(ids, n, n_rows)) return -1;
    std::vector<uint32_t> sorted(ids, ids + n);
    radix_sort(sorted, n_rows, 0);
    int64_t k = 0;
    for (int64_t p = 0; p < n; ++p) {  // no branch, which would be mispredicted at many a row
        rows[k] = sorted[p], occurrences[k] = static_cast<int32_t>(p + 1);
        k += p + 1 == n || sorted[p] != sorted[p + 1];
    }
    for (int64_t i = k - 1; i > 0; --i) occurrences[i] -= occurrences[i - 1];
    return k;
}

// For rows that another optimizer is about to move: copies their weights to `old`, (k, dim), adds
// the batch to their counts, copies these to `counted`, (k,), and raises the largest to theirs.
extern "C" void keep_rows(const Batch* b, const float* weight, float* old, int32_t* counted,
                          const Scale* s, int threads) {
    std::atomic<int32_t> largest{s->count ? *s->max_count : 0};
    in_parallel(threads, b->k, [&](int64_t first, int64_t last) {
        int32_t most = 0;
        for (int64_t i = first; i < last; ++i) {
            if (const int64_t ahead = i + 12; ahead < last) {
                prefetch_row(weight + b->rows[ahead] * b->dim, b->dim);
                if (s->count) __builtin_prefetch(&s->count_of(b->rows[ahead]), 1);
            }
            const float* w = weight + b->rows[i] * b->dim;
            std::copy(w, w + b->dim, old + i * b->dim);
            if (!s->count) continue;
            int32_t& count = s->count_of(b->rows[i]);
            counted[i] = count = plus(count, s->by_steps ? 1 : b->occurrences[i]);
            most = std::max(most, count);
        }
        int32_t before = largest;
        while (before < most && !largest.compare_exchange_weak(before, most)) continue;
    });
    if (s->count) *s->max_count = largest;
}

// Corrects the rows of `keep_rows` after they have moved. b has what that wrote: values = old, and
// occurrences = counted.
extern "C" void correct_rows(const Batch* b, float* weight, const Scale* s, int threads) {
    in_parallel(threads, b->k, [&](int64_t first, int64_t last) {
        const Factor factor(*s);
        for (int64_t i = first; i < last; ++i) {
            if (const int64_t ahead = i + 12; ahead < last) {
                prefetch_row(weight + b->rows[ahead] * b->dim, b->dim);
                if (b->last_step) __builtin_prefetch(b->last_step + b->rows[ahead], 1);
            }
            const int64_t row = b->rows[i];
            const float rate = s->count ? factor(b->occurrences[i]) : 1.0f;
            const float keep = kept(*b, row);
            const float* __restrict old = b->values + i * b->dim;
            float* __restrict w = weight + row * b->dim;
            for (int64_t j = 0; j < b->dim; ++j) w[j] = keep * old[j] + rate * (w[j] - old[j]);
        }
    });
}

// The counts of the undo log: n slots, from 64 bits on, of a hash table from row to count. A slot
// whose count is 0 is empty; at least one is.
struct Slot {
    int32_t row, count;
};

// Returns the place of a row, from 0 to n - 1. It ascends with the hash of the row, so that a larger
// table is filled from end to end.
inline int64_t slot_of(uint32_t row, int64_t n) {
    row ^= row >> 16, row *= 0x7feb352du;  // lowbias32, github.com/skeeto/hash-prospector
    row ^= row >> 15, row *= 0x846ca68bu;
    row ^= row >> 16;
    return static_cast<uint64_t>(row) * n >> 32;
}

// Returns the slot of a row, or the empty one where it belongs.
inline Slot& find(Slot* slots, int64_t n, int64_t row) {
    int64_t at = slot_of(row, n);
    while (slots[at].count > 0 && slots[at].row != row) at = at + 1 == n ? 0 : at + 1;
    return slots[at];
}

// Adds the occurrences of k rows to their counts. Writes the rows that had none, and returns how many
// they are.
extern "C" int64_t add_counts(Slot* slots, int64_t n, const int64_t* rows,
                              const int32_t* occurrences, int64_t k, int64_t* new_rows) {
    int64_t found = 0;
    for (int64_t i = 0; i < k; ++i) {
        if (i + 16 < k) __builtin_prefetch(slots + slot_of(rows[i + 16], n), 1);
        if (occurrences[i] == 0) continue;
        Slot& slot = find(slots, n, rows[i]);
        if (slot.count == 0) new_rows[found++] = slot.row = rows[i];
        slot.count = plus(slot.count, occurrences[i]);
    }
    return found;
}

// Copies all counts into a larger table, whose slots are empty.
extern "C" void move_counts(const Slot* from, int64_t n, Slot* to, int64_t m) {
    for (const Slot* slot = from; slot < from + n; ++slot)
        if (slot->count > 0) find(to, m, slot->row) = *slot;
}

// Writes the counts of k rows.
extern "C" void counts_of(Slot* slots, int64_t n, const int64_t* rows, int64_t k, int32_t* counts) {
    for (int64_t i = 0; i < k; ++i) {
        if (i + 16 < k) __builtin_prefetch(slots + slot_of(rows[i + 16], n));
        counts[i] = find(slots, n, rows[i]).count;
    }
}

// Writes the summed gradient of each row, (k, dim).
extern "C" void sum_rows(const Batch* b, float* sums, int threads) {
    in_parallel(threads, b->k, [&](int64_t first, int64_t last) {
        std::vector<double> sum(b->dim);
        for (int64_t i = first; i < last; ++i) {
            float* result = sums + i * b->dim;
            const float* g = gradient(*b, i, sum.data(), result);
            if (g != result) std::copy(g, g + b->dim, result);
        }
    });
}

// rule: its position in RULES of rules.py.
extern "C" void update_rows(int rule, const Batch* b, float* weight, float* one, float* two,
                            const Step* s, const Scale* scale, int threads) {
    if (rule == 0) update<Adam, false>(*b, weight, one, two, *s, *scale, threads);
    if (rule == 1) update<Adagrad, false>(*b, weight, one, two, *s, *scale, threads);
    if (rule == 2) update<Sgd, true>(*b, weight, one, two, *s, *scale, threads);
    if (rule == 3) update<Sgd, false>(*b, weight, one, two, *s, *scale, threads);
}

// Names the source that the library was built from, for compiled.py to compare.
extern "C" const char* source_hash() { return SOURCE_HASH; }
