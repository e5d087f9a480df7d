// The lookups and votes of LeaveOneOutRows on a CPU, compiled into the same library as _kernels.cpp.
// The mathematics is that of votes.py, in the same order, so that both round a vote alike.
//
// A vote is the last change that a lookup made to its row: dim parts of 1 byte or of 4 (a float),
// and then their scale, a bfloat16. A part of 1 byte is a multiple of the scale from -127 to 127. A
// scale of 0 says that there is no vote.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

// Calls work(j) for every j below dim, sixteen at once: the loop that a compiler makes of parts of 1
// byte takes at least thirty-two.
template <typename Work>
inline void each(int64_t dim, Work work) {
    int64_t j = 0;
    for (; j + 16 <= dim; j += 16) {
#pragma omp simd
        for (int64_t k = 0; k < 16; ++k) work(j + k);
    }
    for (; j < dim; ++j) work(j);
}

float scale_of(const uint8_t* vote, int64_t dim, int64_t part) {
    uint16_t half;
    std::memcpy(&half, vote + dim * part, 2);
    const uint32_t bits = static_cast<uint32_t>(half) << 16;
    float scale;
    std::memcpy(&scale, &bits, 4);
    return scale;
}

void write_scale(uint8_t* vote, int64_t dim, int64_t part, float scale) {
    uint32_t bits;
    std::memcpy(&bits, &scale, 4);
    const uint16_t half = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;  // to nearest, ties to even
    std::memcpy(vote + dim * part, &half, 2);
}

// Writes what the vote changed in its row, (dim,); returns whether there is one.
bool read_vote(const uint8_t* vote, int64_t dim, int64_t part, float* __restrict change) {
    const float scale = scale_of(vote, dim, part);
    if (scale == 0.0f) return false;
    if (part == 4) {
        std::memcpy(change, vote, 4 * dim);
    } else {
        const int8_t* __restrict parts = reinterpret_cast<const int8_t*>(vote);
        each(dim, [&](int64_t j) { change[j] = scale * parts[j]; });
    }
    return true;
}

// Keeps a change, (dim,), as a vote, and rounds it as it is kept.
void write_vote(uint8_t* vote, int64_t dim, int64_t part, float* __restrict change) {
    if (part == 4) {
        std::memcpy(vote, change, 4 * dim);
        return write_scale(vote, dim, part, 1.0f);
    }
    float most = 1e-30f;  // of a vote of zeros, too, which is one
#pragma omp simd reduction(max : most)
    for (int64_t j = 0; j < dim; ++j) most = std::max(most, std::fabs(change[j]));
    write_scale(vote, dim, part, most / 127.0f);
    const float scale = scale_of(vote, dim, part);
    int8_t* __restrict parts = reinterpret_cast<int8_t*>(vote);
    each(dim, [&](int64_t j) {
        // To the nearest whole number, ties to even; std::nearbyint is a call for each.
        const float whole = change[j] / scale + 0x1.8p23f - 0x1.8p23f;
        parts[j] = static_cast<int8_t>(static_cast<int32_t>(whole));
        change[j] = scale * whole;
    });
}

}  // namespace

// Takes m votes, at the bytes `at` of `votes`, out of what is read, (n, dim): vote i, times its share,
// out of row place[i]. Without `place` and `share`, whole and out of row i.
extern "C" void leave_out(const uint8_t* votes, const int64_t* at, const int64_t* place,
                          const float* share, int64_t m, int64_t dim, int64_t part, float* read) {
    std::vector<float> own(dim);
    for (int64_t i = 0; i < m; ++i) {
        if (!read_vote(votes + at[i], dim, part, own.data())) continue;
        float* __restrict row = read + (place ? place[i] : i) * dim;
        const float times = share ? share[i] : 1.0f;
        for (int64_t j = 0; j < dim; ++j) row[j] -= times * own[j];
    }
}

// Lets m lookups of a table vote, by their gradients (m, dim): counts them, moves the mean square of
// the table, (dim,), by `newest` of the way towards theirs, and replaces their votes in `votes` and
// in their rows.
extern "C" void vote(const int64_t* ids, const int64_t* at, const float* gradient, int64_t m,
                     int64_t dim, int64_t part, uint8_t* votes, float* weight, int32_t* count,
                     int32_t below, double* mean_square, double newest, double lr, float c) {
    const int64_t ahead = 8;
    std::vector<uint8_t> few(m);
    std::vector<float> change(dim), own(dim), rate(dim);
    std::vector<double> squares(dim);
    for (int64_t i = 0; i < m; ++i) {
        if (i + ahead < m) __builtin_prefetch(count + ids[i + ahead], 1);
        few[i] = count[ids[i]] < below;
    }
    for (int64_t i = 0; i < m; ++i) {
        const bool again = few[i] && scale_of(votes + at[i], dim, part) != 0.0f;
        if (!again && count[ids[i]] < INT32_MAX) ++count[ids[i]];
        for (int64_t j = 0; j < dim; ++j) {
            const double g = gradient[i * dim + j];
            squares[j] += g * g;
        }
    }
    for (int64_t j = 0; j < dim; ++j) {
        mean_square[j] += newest * (squares[j] / static_cast<double>(m) - mean_square[j]);
        rate[j] = static_cast<float>(lr / std::sqrt(std::max(mean_square[j], 1e-60)));
    }
    for (int64_t i = 0; i < m; ++i) {
        if (i + ahead < m)
            for (int64_t j = 0; j < dim; j += 16)
                __builtin_prefetch(weight + ids[i + ahead] * dim + j, 1);
        const float* __restrict g = gradient + i * dim;
        uint8_t* own_vote = votes + at[i];
        const bool had = read_vote(own_vote, dim, part, own.data());
        const float n = static_cast<float>(count[ids[i]]), root = std::sqrt(n + c);
        const float step = few[i] && had ? 2.0f * (root - std::sqrt(c)) / n : 1.0f / root;
        for (int64_t j = 0; j < dim; ++j) change[j] = -step * (rate[j] * g[j]);
        float* __restrict w = weight + ids[i] * dim;
        if (few[i]) {
            write_vote(own_vote, dim, part, change.data());
            if (had)
                for (int64_t j = 0; j < dim; ++j) change[j] -= own[j];
        } else if (had) {
            write_scale(own_vote, dim, part, 0.0f);  // of a row that has become frequent: it stays
        }
        for (int64_t j = 0; j < dim; ++j) w[j] += change[j];
    }
}
