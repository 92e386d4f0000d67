/*
 * Runs of bytes, sixteen or thirty-two at a time.
 *
 * Every buffer that is read here can be read for SIMD_PADDING bytes past its end (what is there does
 * not matter), and every buffer that is written has that much room behind what is asked for: so there
 * are no scalar tails.  `_fastparse.Columns` allocates its data that way.
 *
 * | target | blocks | tested |
 * |---|---|---|
 * | x86-64 with AVX2 (asked of the processor at start) | 32 bytes | yes |
 * | x86-64 | 16 bytes, SSE2 | yes |
 * | aarch64 | 16 bytes, NEON | compiled from the same template, not run in the tests |
 * | others | 8 bytes in an integer | yes, with TAILRACE_SIMD_PLAIN |
 */
#ifndef TAILRACE_SIMD_H
#define TAILRACE_SIMD_H

#include <stdint.h>
#include <string.h>

#define SIMD_PADDING 64

#if defined(__GNUC__)
#define SIMD_INLINE static inline __attribute__((always_inline, unused))
#define SIMD_FUNCTION static __attribute__((unused))
#else
#error "gcc or clang"
#endif

/* How one byte is written: `length` bytes of `text`, standing for `decoded` bytes of the message. */
typedef struct {
    uint8_t text[8];
    uint8_t length;
    uint8_t decoded;
} simd_escape_entry;

/* Where an escape run stopped. */
typedef struct {
    const uint8_t *source;
    uint8_t *target;
    int64_t decoded;
} simd_escape_state;

/*
 * Length of the well-formed UTF-8 sequence at `text` (lead byte >= 0x80), or minus the length of the
 * maximal ill-formed part, which becomes one U+FFFD (Unicode 3.9, table 3-7; as Python decodes).
 */
SIMD_INLINE int simd_utf8_step(const uint8_t *text, const uint8_t *end)
{
    uint8_t lead = text[0];
    uint8_t low = 0x80, high = 0xBF;
    int more, i;

    if (lead < 0xC2) return -1;
    if (lead < 0xE0) more = 1;
    else if (lead < 0xF0) {
        more = 2;
        if (lead == 0xE0) low = 0xA0;
        else if (lead == 0xED) high = 0x9F;
    } else if (lead < 0xF5) {
        more = 3;
        if (lead == 0xF0) low = 0x90;
        else if (lead == 0xF4) high = 0x8F;
    } else return -1;
    for (i = 1; i <= more; i++) {
        if (text + i >= end || text[i] < low || text[i] > high) return -i;
        low = 0x80;
        high = 0xBF;
    }
    return more + 1;
}

/* Bit i (or, for NEON, nibble i) is set where byte i is a control, '"', '\\' or not ASCII. */
#if defined(TAILRACE_SIMD_PLAIN) || !(defined(__SSE2__) || defined(__ARM_NEON))
#define SIMD_BLOCK 8
#define SIMD_BITS_SHIFT 3
typedef uint64_t simd_bits;
SIMD_INLINE simd_bits simd_block(const uint8_t *source, uint8_t *target, int escapes)
{
    const uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;
    uint64_t word, quote, slash, bits;
    memcpy(&word, source, 8);
    memcpy(target, &word, 8);
    if (!escapes) return word & tops;
    /* A borrow can only set bits above a true one, and the lowest is the one that is used. */
    quote = word ^ (ones * '"');
    slash = word ^ (ones * '\\');
    bits = ((word - ones * 0x20) | (quote - ones) | (slash - ones) | word) & tops;
    return bits;
}
#elif defined(__SSE2__)
#include <immintrin.h>
#define SIMD_BLOCK 16
#define SIMD_BITS_SHIFT 0
typedef uint32_t simd_bits;
SIMD_INLINE simd_bits simd_block(const uint8_t *source, uint8_t *target, int escapes)
{
    __m128i bytes = _mm_loadu_si128((const __m128i *)source);
    _mm_storeu_si128((__m128i *)target, bytes);
    if (!escapes) return (uint32_t)_mm_movemask_epi8(bytes);
    /* Signed: what is below 0x20 is a control or not ASCII. */
    __m128i hit = _mm_cmplt_epi8(bytes, _mm_set1_epi8(0x20));
    hit = _mm_or_si128(hit, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')));
    hit = _mm_or_si128(hit, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\')));
    return (uint32_t)_mm_movemask_epi8(hit);
}
#else
#include <arm_neon.h>
#define SIMD_BLOCK 16
#define SIMD_BITS_SHIFT 2
typedef uint64_t simd_bits;
SIMD_INLINE simd_bits simd_block(const uint8_t *source, uint8_t *target, int escapes)
{
    uint8x16_t bytes = vld1q_u8(source);
    vst1q_u8(target, bytes);
    uint8x16_t hit = vcgeq_u8(bytes, vdupq_n_u8(0x80));
    if (escapes) {
        hit = vorrq_u8(hit, vcltq_u8(bytes, vdupq_n_u8(0x20)));
        hit = vorrq_u8(hit, vceqq_u8(bytes, vdupq_n_u8('"')));
        hit = vorrq_u8(hit, vceqq_u8(bytes, vdupq_n_u8('\\')));
    }
    return vget_lane_u64(vreinterpret_u64_u8(vshrn_n_u16(vreinterpretq_u16_u8(hit), 4)), 0);
}
#endif

/* The byte at `*source`, which does not stand for itself, or the run of bytes that are not ASCII. */
SIMD_INLINE void simd_odd(
    const uint8_t **source, const uint8_t *end, uint8_t **target, int64_t *decoded,
    const simd_escape_entry *table)
{
    if (**source < 0x80) {
        const simd_escape_entry *entry = &table[*(*source)++];
        memcpy(*target, entry->text, 8);
        *target += entry->length, *decoded += entry->decoded;
        return;
    }
    do {
        int step = simd_utf8_step(*source, end);
        if (step > 0) {
            memcpy(*target, *source, 4);
            *source += step, *target += step, *decoded += step;
        } else {
            memcpy(*target, "\xEF\xBF\xBD", 4);
            *source -= step, *target += 3, *decoded += 3;
        }
    } while (*source < end && **source >= 0x80);
}

/*
 * Copy [state->source, end) to state->target: bytes that need it through `table` (256 entries; NULL:
 * none does), ill-formed UTF-8 as U+FFFD.  The loop over blocks of a function; with AVX2 there is another.
 */
#define SIMD_COPY_LOOP(BLOCK_FUNCTION, BLOCK, SHIFT, LOWEST)                                            \
    const uint8_t *source = state->source;                                                             \
    uint8_t *target = state->target;                                                                   \
    int64_t decoded = state->decoded;                                                                  \
    while (source < end) {                                                                             \
        uint64_t bits = BLOCK_FUNCTION(source, target, table != NULL);                                 \
        int64_t run = bits ? (int64_t)(LOWEST(bits) >> (SHIFT)) : (BLOCK);                             \
        int64_t rest = end - source;                                                                   \
        if (run >= rest) {                                                                             \
            source += rest, target += rest, decoded += rest;                                           \
            break;                                                                                     \
        }                                                                                              \
        source += run, target += run, decoded += run;                                                  \
        if (bits) simd_odd(&source, end, &target, &decoded, table);                                    \
    }                                                                                                  \
    state->source = source, state->target = target, state->decoded = decoded

SIMD_FUNCTION void simd_copy_baseline(
    simd_escape_state *state, const uint8_t *end, const simd_escape_entry *table)
{
    SIMD_COPY_LOOP(simd_block, SIMD_BLOCK, SIMD_BITS_SHIFT, __builtin_ctzll);
}

#if defined(__x86_64__) && !defined(TAILRACE_SIMD_PLAIN)
/*
 * What '"' and '\\' need is always the same: one backslash before them, or three where text is escaped
 * twice.  JSON has one in every seven bytes, too many for a branch each.  So the bytes of a group move to
 * their places by a shuffle, chosen by the bits of those that need it; the top bit of an index says backslash.
 */
typedef struct {
    uint8_t once[256][16] __attribute__((aligned(16)));  /* eight bytes */
    uint8_t twice[16][16];  /* four bytes */
} simd_shuffles;

SIMD_FUNCTION void simd_shuffle_fill(uint8_t *shuffle, int mask, int group, int before)
{
    int bit, i, at = 0;
    memset(shuffle, 0, 16);
    for (bit = 0; bit < group; bit++) {
        if (mask >> bit & 1) for (i = 0; i < before; i++) shuffle[at++] = 0x80;
        shuffle[at++] = (uint8_t)bit;
    }
}

SIMD_FUNCTION simd_shuffles *simd_shuffles_filled(void)
{
    static simd_shuffles shuffles;
    int mask;
    for (mask = 0; mask < 256; mask++) simd_shuffle_fill(shuffles.once[mask], mask, 8, 1);
    for (mask = 0; mask < 16; mask++) simd_shuffle_fill(shuffles.twice[mask], mask, 4, 3);
    return &shuffles;
}

static const simd_shuffles *simd_shuffled __attribute__((unused));

/* One group: `bytes` with a backslash, or three, before each that `shuffle` says. */
__attribute__((target("avx2"), always_inline, unused)) static inline
void simd_group(uint8_t *target, __m128i bytes, const uint8_t *shuffle)
{
    __m128i places = _mm_load_si128((const __m128i *)shuffle);
    bytes = _mm_shuffle_epi8(bytes, places);
    _mm_storeu_si128((__m128i *)target, _mm_blendv_epi8(bytes, _mm_set1_epi8('\\'), places));
}

/* `count` bytes (at most 32, none a control or not ASCII), those in `escapes` escaped. */
__attribute__((target("avx2"), always_inline, unused)) static inline
void simd_expand(const uint8_t *source, uint8_t *target, int64_t count, uint32_t escapes, int before)
{
    int64_t done;
    if (before == 1) {
        for (done = 0; done < count; done += 8, escapes >>= 8) {
            simd_group(target, _mm_loadl_epi64((const __m128i *)(source + done)),
                       simd_shuffled->once[escapes & 0xFF]);
            target += 8 + __builtin_popcount(escapes & 0xFF);
        }
        return;
    }
    for (done = 0; done < count; done += 4, escapes >>= 4) {
        int32_t four;
        memcpy(&four, source + done, 4);
        simd_group(target, _mm_cvtsi32_si128(four), simd_shuffled->twice[escapes & 0xF]);
        target += 4 + 3 * __builtin_popcount(escapes & 0xF);
    }
}

__attribute__((target("avx2"), unused)) static void simd_copy_avx2(
    simd_escape_state *state, const uint8_t *end, const simd_escape_entry *table)
{
    const uint8_t *source = state->source;
    uint8_t *target = state->target;
    int64_t decoded = state->decoded;
    while (source < end) {
        __m256i bytes = _mm256_loadu_si256((const __m256i *)source);
        int64_t count = end - source;
        uint32_t odd, escapes = 0;
        _mm256_storeu_si256((__m256i *)target, bytes);
        if (table != NULL) {
            /* Signed: what is below 0x20 is a control or not ASCII. */
            __m256i hit = _mm256_or_si256(_mm256_cmpeq_epi8(bytes, _mm256_set1_epi8('"')),
                                          _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8('\\')));
            escapes = (uint32_t)_mm256_movemask_epi8(hit);
            bytes = _mm256_cmpgt_epi8(_mm256_set1_epi8(0x20), bytes);
        }
        odd = (uint32_t)_mm256_movemask_epi8(bytes);
        if (odd && __builtin_ctz(odd) < count) count = __builtin_ctz(odd);
        else odd = 0;
        if (count < 32) escapes &= (1u << count) - 1;
        else count = 32;
        if (escapes) {
            int before = table['"'].length - 1, found = __builtin_popcount(escapes);
            simd_expand(source, target, count, escapes, before);
            target += before * found, decoded += (table['"'].decoded - 1) * found;
        }
        source += count, target += count, decoded += count;
        if (odd) simd_odd(&source, end, &target, &decoded, table);
    }
    state->source = source, state->target = target, state->decoded = decoded;
}
#endif

typedef void (*simd_copy_function)(
    simd_escape_state *state, const uint8_t *end, const simd_escape_entry *table);

/* level 0: baseline; level 1: the best that this processor has. */
SIMD_FUNCTION simd_copy_function simd_copy_choose(int level)
{
#if defined(__x86_64__) && !defined(TAILRACE_SIMD_PLAIN)
    __builtin_cpu_init();
    if (level && __builtin_cpu_supports("avx2")) {
        simd_shuffled = simd_shuffles_filled();
        return simd_copy_avx2;
    }
#endif
    (void)level;
    return simd_copy_baseline;
}

/* The first control, '"' or '\\' in [source, end), or end. */
SIMD_INLINE const uint8_t *simd_string_stop(const uint8_t *source, const uint8_t *end)
{
#if defined(__SSE2__) && !defined(TAILRACE_SIMD_PLAIN)
    const __m128i controls = _mm_set1_epi8(0x1F);
    for (; source < end; source += 16) {
        __m128i bytes = _mm_loadu_si128((const __m128i *)source);
        __m128i hit = _mm_cmpeq_epi8(_mm_min_epu8(bytes, controls), bytes);
        hit = _mm_or_si128(hit, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('"')));
        hit = _mm_or_si128(hit, _mm_cmpeq_epi8(bytes, _mm_set1_epi8('\\')));
        uint32_t bits = (uint32_t)_mm_movemask_epi8(hit);
        if (bits) {
            source += __builtin_ctz(bits);
            break;
        }
    }
    return source < end ? source : end;
#else
    while (source < end && *source >= 0x20 && *source != '"' && *source != '\\') source++;
    return source;
#endif
}

/* Eight ASCII digits, most significant first, or -1. */
SIMD_INLINE int64_t simd_eight_digits(const uint8_t *text)
{
    uint64_t word;
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#error "little-endian only"
#endif
    memcpy(&word, text, 8);
    if (((word & 0xF0F0F0F0F0F0F0F0u) | (((word + 0x0606060606060606u) & 0xF0F0F0F0F0F0F0F0u) >> 4))
        != 0x3333333333333333u) return -1;
    word -= 0x3030303030303030u;
    word = (word * 10) + (word >> 8);
    word = (((word & 0x000000FF000000FFu) * 0x000F424000000064u)
            + (((word >> 16) & 0x000000FF000000FFu) * 0x0000271000000001u)) >> 32;
    return (int64_t)word;
}

/* `value` < 100,000,000 as eight ASCII digits, most significant first, in the bytes of a word. */
SIMD_INLINE uint64_t simd_digits_of(uint32_t value)
{
    uint64_t word = value / 10000 | (uint64_t)(value % 10000) << 32;
    uint64_t high = (word * 10486 >> 20) & 0x0000007F0000007Fu; /* / 100, below 10,000 */
    word = high | (word - high * 100) << 16;
    high = (word * 103 >> 10) & 0x000F000F000F000Fu; /* / 10, below 100 */
    return (high | (word - high * 10) << 8) + 0x3030303030303030u;
}

#endif
